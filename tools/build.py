"""Builds the four functions for this machine with the real `sam build`."""

import os

from tools.failure import Failure
from tools.layout import ARCHITECTURE, BUILD, CONFIG, FUNCTIONS, LOCAL, ROOT, VENV, tool
from tools.machine import TOOLS, locked
from tools.processes import Word, run
from tools.surroundings import clean_environment

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


def build() -> None:
    """Builds the functions that have changed, as `.aws-sam/build/<LogicalId>/bootstrap`."""
    make_layer_readable()
    check = check_config_command(os.path.relpath(CONFIG, ROOT))
    run("Checking the configuration", check, LOCAL / "logs" / "config.log", cwd=ROOT, env=environment(), hint=HINT)
    with locked(ROOT / "template.yaml"):
        run(
            "Building the functions",
            sam_build_command(),
            LOCAL / "logs" / "build.log",
            cwd=ROOT,
            env=environment(),
            hint=HINT,
        )
        absent = [name for name in FUNCTIONS if not (BUILD / name / "bootstrap").is_file()]
    if absent:
        raise Failure(f"sam build succeeded without a bootstrap for {', '.join(absent)} in {BUILD}: see template.yaml")
