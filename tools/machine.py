"""The programs that the machine must have, and the packages that the project installs into its own folders.

This module uses only the standard library, because it runs before anything is installed.
"""

import ast
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.failure import Failure
from tools.layout import ARCHITECTURE, REQUIREMENTS, ROOT, RUST_TARGETS, VENV
from tools.processes import Word, run
from tools.surroundings import REGISTRIES, clean_environment

PYTHON = (3, 11)
NODE = 20
CARGO_DENY = "0.20.2"
TOOLS = ROOT / "target" / "tools"
LOGS = ROOT / ".local" / "logs"

NETWORK = (
    "This step downloads from the package registries: if the lines above report a connection error, "
    "check the network or its proxy, and run this again."
)
RUSTUP = "install Rust with rustup (https://rustup.rs), or: apt-get install rustup && rustup default stable"


@contextmanager
def locked(path: Path, refusal: str | None = None) -> Iterator[None]:
    """Holds the path's lock, which the kernel releases when its holder ends.

    If another process holds the lock, this function waits. If `refusal` is given, the function does not wait, but
    raises `Failure` with that text.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (fcntl.LOCK_NB if refusal else 0))
        except BlockingIOError:
            raise Failure(refusal) from None
        yield
    finally:
        os.close(handle)


def missing() -> list[str]:
    """The programs that the machine lacks, each with the way to get it."""
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
        found = outdated()
    try:
        import ensurepip  # noqa: F401, PLC0415 (only some distributions lack it, so its absence is reported below)
    except ImportError:
        found.append(f"Python's venv is missing: apt-get install python{PYTHON[0]}-venv")
    if ARCHITECTURE is None:
        found.append(f"this machine is a {os.uname().machine}: Lambda supports only x86_64 and arm64")
    return found


def outdated() -> list[str]:
    """The programs that are too old, each with the way to update it."""
    found = []
    node, rust = _output_of("node", "--version"), _output_of("rustc", "--version")
    version = re.search(r"v(\d+)", node)
    if version is None or int(version[1]) < NODE:
        found.append(f"node {node} is too old: Node.js {NODE} or later, from https://nodejs.org")
    wanted = re.search(r'rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text())
    assert wanted, "Cargo.toml sets rust-version"
    installed = re.search(r"rustc ([\d.]+)", rust)
    if installed is None or _numbers(installed[1]) < _numbers(wanted[1]):
        found.append(f"{rust or 'rustc'} is too old: {wanted[1]} or later, by: rustup update stable")
    return found


def has_rust_target(target: str) -> bool:
    """Whether Rust's standard library for the target is installed."""
    # This uses rustc and not rustup, because a distribution's Rust comes without rustup.
    libraries = _output_of("rustc", "--print", "target-libdir", "--target", target)
    return bool(libraries) and any(Path(libraries).glob("libstd-*"))


def _output_of(*command: str | Path) -> str:
    """The output of a command; empty if the command can't be run."""
    try:
        done = subprocess.run(
            command, env=clean_environment(), capture_output=True, text=True, timeout=60, cwd=ROOT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _stamp(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _is_current(folder: Path, stamp: str) -> bool:
    file = folder / ".stamp"
    return file.is_file() and file.read_text() == stamp


def set_up() -> None:
    """Checks the machine, and installs the pinned packages that are missing into `.venv` and `node_modules`."""
    problems = missing()
    if not problems and ARCHITECTURE and not has_rust_target(target := RUST_TARGETS[ARCHITECTURE]):
        problems = [f"Rust can't build for {target}: rustup target add {target}"]
    if problems:
        raise Failure("This machine lacks something:\n" + "\n".join(f"  {problem}" for problem in problems))
    with locked(ROOT):
        _install_python_packages()
        _install_node_packages()


def _install_python_packages() -> None:
    stamp = _stamp(REQUIREMENTS.read_text(), sys.version)
    if _is_current(VENV, stamp):
        return
    python = VENV / "bin" / "python"
    if not _output_of(python, "-c", "print(1)"):
        shutil.rmtree(VENV, ignore_errors=True)
        run("Making .venv", [sys.executable, "-m", "venv", VENV], LOGS / "venv.log")
    # Some packages still need setuptools, which Python 3.12 no longer includes, so requirements.txt pins setuptools.
    command = pip_install(python, REQUIREMENTS)
    run("Installing Python tools into .venv", command, LOGS / "pip.log", env=pip_environment(python), hint=NETWORK)
    (VENV / ".stamp").write_text(stamp)


def pip_install(python: Path, requirements: Path) -> list[Word]:
    """The command that installs the requirements into the Python environment."""
    return [python, "-m", "pip", "install", "--no-deps", "-r", requirements]


def pip_environment(python: Path) -> dict[str, str]:
    """The environment for pip. From the reader's pip.conf, it keeps only the settings that lead to the registry.

    A pip.conf may also name another folder to install into, and no option of pip overrides that setting.
    """
    found = {}
    for line in _output_of(python, "-m", "pip", "config", "list").splitlines():
        key, _, value = line.partition("=")
        section, _, setting = key.partition(".")
        name = f"PIP_{setting.replace('-', '_').upper()}"
        if section in ("global", "install") and REGISTRIES.fullmatch(name):
            found[name] = str(ast.literal_eval(value))
    # If PIP_CONFIG_FILE is the null device, pip reads no configuration file. Variables of the shell override pip.conf.
    return found | clean_environment(PIP_CONFIG_FILE=os.devnull)


def _install_node_packages() -> None:
    modules = ROOT / "node_modules"
    stamp = _stamp((ROOT / "package-lock.json").read_text(), _output_of("node", "--version"))
    if _is_current(modules, stamp):
        return
    # These options override the reader's .npmrc. npm must still read that file, because the file may name the registry.
    command = ["npm", "ci", "--location=project", "--no-global", "--include=dev", "--no-dry-run", "--ignore-scripts"]
    command += ["--no-audit", "--no-fund"]
    run("Installing Node tools into node_modules", command, LOGS / "npm.log", cwd=ROOT, hint=NETWORK)
    (modules / ".stamp").write_text(stamp)


def cargo_deny() -> Path:
    """The path of cargo-deny, which is built into `target/tools` if it is not there yet."""
    program = TOOLS / "bin" / "cargo-deny"
    with locked(ROOT):
        if CARGO_DENY not in _output_of(program, "--version"):
            command: list[Word] = [
                "cargo",
                "install",
                "cargo-deny",
                "--version",
                CARGO_DENY,
                "--locked",
                "--force",
                "--root",
                TOOLS,
                # It never waits for another build.
                "--target-dir",
                TOOLS,
            ]
            # Without optimization and debug information, the build takes a fraction of the time, and the program runs
            # for a second.
            command += ["--debug", "--config", "profile.dev.debug=false"]
            # The default features would also fetch advisories, which are not in the package registries.
            run("Building cargo-deny", [*command, "--no-default-features"], LOGS / "cargo-deny.log", hint=NETWORK)
    return program
