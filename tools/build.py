"""Builds the functions for this machine with the real `sam build`, in the release profile."""

import hashlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

from tools.failure import Failure
from tools.layout import ARCHITECTURE, BUILD, CONFIG, FUNCTIONS, LOCAL, ROOT, VENV, tool
from tools.machine import TOOLS, locked
from tools.processes import Word, run
from tools.surroundings import clean_environment

TEMPLATE = ROOT / "template.yaml"
# What the binaries are built from, besides the compiler.
SOURCES = ("Cargo.toml", "Cargo.lock", "functions", "shared", "vendor")
# The digest of the sources of the binaries in BUILD. sam removes it with the earlier binaries when it begins to build.
DIGEST = BUILD / "sources.sha256"
# The digest of everything from which BUILD was built: the sources, the template and the files of the layer.
INPUTS = BUILD / "inputs.sha256"
# The mode bits that let everybody read a file.
READABLE = 0o444
HINT = (
    "Correct what the lines above name, then run this again. "
    "If they report a connection error, check the network: the build downloads crates."
)


def environment(**extra: str) -> dict[str, str]:
    """The environment for SAM. In its PATH, the project's own programs come first."""
    clean = clean_environment(**extra)
    clean["PATH"] = f"{VENV / 'bin'}:{clean['PATH']}"
    return clean


def check_config_command(config: str) -> list[Word]:
    """The command that checks a sekisho.toml with the functions' own parser.

    It has a target directory of its own, so that it never waits for another build.
    """
    example: list[Word] = ["-p", "sekisho-domain", "--example", "check-config"]
    return ["cargo", "run", "--quiet", "--target-dir", TOOLS, *example, "--", config]


def make_layer_readable() -> None:
    """Lets everybody read the files of the configuration layer.

    sam keeps the permissions of each file in the package, and Lambda reads the files as another user. In a checkout
    with a strict umask, only the owner could read them.
    """
    for file in CONFIG.parent.iterdir():
        mode = file.stat().st_mode
        if mode & READABLE != READABLE:
            file.chmod(mode | READABLE)


def sam_build_command() -> list[Word]:
    """The command that builds the functions for this machine."""
    # samconfig.toml has no environment `local`. The name keeps sam from using the settings under `default`.
    return [tool("sam"), "build", "--config-env", "local", "--parameter-overrides", f"Architecture={ARCHITECTURE}"]


def digest_of_sources() -> str:
    """A digest of the compiler's version and of the files from which it builds the binaries.

    Unlike the times of the files, it is the same after a change of branches and back.
    """
    compiler = subprocess.run(["rustc", "--version"], env=environment(), capture_output=True, check=True).stdout
    return _digest(SOURCES, compiler)


def _digest(sources: Iterable[str], start: bytes) -> str:
    """A digest of files and folders, without the tests among them."""
    digest = hashlib.sha256(start)
    for source in sources:
        place = ROOT / source
        for file in sorted(place.rglob("*")) if place.is_dir() else [place]:
            name = file.relative_to(ROOT)
            if file.is_file() and "tests" not in name.parts:
                digest.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


def release_digest() -> str | None:
    """The digest of the sources from which the release binaries were built; None if some binary is missing."""
    if not all((BUILD / name / "bootstrap").is_file() for name in FUNCTIONS) or not DIGEST.is_file():
        return None
    return DIGEST.read_text()


def check_config() -> None:
    """Checks the configuration, and lets Lambda read it."""
    make_layer_readable()
    check = check_config_command(os.path.relpath(CONFIG, ROOT))
    run("Checking the configuration", check, LOCAL / "logs" / "config.log", cwd=ROOT, env=environment(), hint=HINT)


def build() -> Path:
    """Builds the functions that have changed, as `.aws-sam/build/<LogicalId>/bootstrap`; returns the built template.

    If nothing has changed, the files stay as they are, because another process may deploy them.
    """
    check_config()
    with locked(TEMPLATE):
        digest = digest_of_sources()
        inputs = _digest([TEMPLATE.name, CONFIG.parent.name], digest.encode())
        if release_digest() == digest and INPUTS.is_file() and INPUTS.read_text() == inputs:
            return BUILD / TEMPLATE.name
        run(
            "Building the functions",
            sam_build_command(),
            LOCAL / "logs" / "build.log",
            cwd=ROOT,
            env=environment(),
            hint=HINT,
        )
        absent = [name for name in FUNCTIONS if not (BUILD / name / "bootstrap").is_file()]
        if not absent:
            DIGEST.write_text(digest)
            INPUTS.write_text(inputs)
    if absent:
        raise Failure(f"sam build succeeded without a bootstrap for {', '.join(absent)} in {BUILD}: see template.yaml")
    return BUILD / TEMPLATE.name
