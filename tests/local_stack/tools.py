"""What the machine must have, and what the project installs into its own folders. Standard library only: it runs first."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager

from .layout import ARCHITECTURE, ROOT, VENV
from .processes import Failure, run

PYTHON = (3, 11)
NODE = 20
CARGO_DENY = "0.20.2"
TOOLS = ROOT / "target" / "tools"
REQUIREMENTS = ROOT / "tests" / "requirements.txt"
LOGS = ROOT / ".local" / "logs"

NETWORK = "It comes from the package registries: if the lines above speak of a connection, mend the network (or its proxy) and run this again."
RUSTUP = "install Rust with rustup (https://rustup.rs), or: apt-get install rustup && rustup default stable"


@contextmanager
def alone(path, taken=None):
    """Only one process at a time. The next waits or, given what to say, fails with it. The kernel's lock goes with its holder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if taken else 0))
        except BlockingIOError:
            raise Failure(taken) from None
        yield
    finally:
        os.close(handle)


def missing():
    """What the machine lacks, each with how to get it."""
    found = []
    for program, how in (
        ("rustc", RUSTUP),
        ("cargo", RUSTUP),
        ("git", "apt-get install git"),
        ("cc", "a C compiler: apt-get install gcc libc6-dev"),
        ("node", f"Node.js {NODE} or later: apt-get install nodejs npm, or https://nodejs.org"),
        ("npm", f"npm, which comes with Node.js {NODE} or later: apt-get install npm"),
    ):
        if shutil.which(program) is None:
            found.append(f"{program} is missing: {how}")
    if not found:
        version = re.search(r"v(\d+)", _said("node", "--version"))
        if version is None or int(version[1]) < NODE:
            found.append(f"node {_said('node', '--version')} is too old: Node.js {NODE} or later, from https://nodejs.org")
        wanted = re.search(r'rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text())[1]
        have = re.search(r"rustc ([\d.]+)", _said("rustc", "--version"))
        if have is None or _numbers(have[1]) < _numbers(wanted):
            found.append(f"{_said('rustc', '--version') or 'rustc'} is too old: {wanted} or later, by: rustup update stable")
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        found.append(f"Python's venv is missing: apt-get install python{PYTHON[0]}-venv")
    if ARCHITECTURE is None:
        found.append(f"this machine is a {os.uname().machine}: Lambda knows x86_64 and arm64 only")
    return found


def rust_target():
    """What is missing to build for this machine's kind of Lambda; none if nothing is."""
    target = {"x86_64": "x86_64", "arm64": "aarch64"}[ARCHITECTURE] + "-unknown-linux-gnu"
    libraries = _said("rustc", "--print", "target-libdir", "--target", target)
    if libraries and any(name.startswith("libstd-") for name in _listed(libraries)):
        return None
    return f"Rust can't build for {target}: rustup target add {target}"


def _listed(folder):
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _said(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _numbers(version):
    return [int(part) for part in version.split(".")]


def _stamp(*parts):
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _fresh(folder, stamp):
    file = folder / ".stamp"
    return file.is_file() and file.read_text() == stamp


def set_up():
    """Checks the machine and brings `.venv` and `node_modules` to what the project pins. Quick when they are."""
    lacks = missing() or [lack for lack in [rust_target()] if lack]
    if lacks:
        raise Failure("This machine lacks something:\n" + "\n".join(f"  {lack}" for lack in lacks))
    with alone(ROOT):
        python = _stamp(REQUIREMENTS.read_text(), sys.version)
        if not _fresh(VENV, python):
            if not _said(VENV / "bin" / "python", "-c", "print(1)"):
                shutil.rmtree(VENV, ignore_errors=True)
                run("Making .venv", [sys.executable, "-m", "venv", VENV], LOGS / "venv.log")
            # Some tools still expect setuptools, which Python 3.12 no longer brings: requirements.txt pins it.
            pip = [VENV / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", "-r", REQUIREMENTS]
            run("Installing Python tools into .venv", pip, LOGS / "pip.log", hint=NETWORK)
            (VENV / ".stamp").write_text(python)
        modules = ROOT / "node_modules"
        node = _stamp((ROOT / "package-lock.json").read_text(), _said("node", "--version"))
        if not _fresh(modules, node):
            command = ["npm", "ci", "--no-audit", "--no-fund"]
            run("Installing Node tools into node_modules", command, LOGS / "npm.log", cwd=ROOT, hint=NETWORK)
            (modules / ".stamp").write_text(node)


def cargo_deny():
    """The path of cargo-deny, built into `target/tools` where it isn't yet."""
    program = TOOLS / "bin" / "cargo-deny"
    with alone(ROOT):
        if CARGO_DENY not in _said(program, "--version"):
            command = ["cargo", "install", "cargo-deny", "--version", CARGO_DENY, "--locked", "--force", "--root", TOOLS]
            # Without its features it can't fetch advisories, which need more than the package registries.
            run("Building cargo-deny", [*command, "--no-default-features"], LOGS / "cargo-deny.log", hint=NETWORK)
    return program
