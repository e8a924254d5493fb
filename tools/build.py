"""The four functions, built by the real `sam build` for this machine."""

import os
from collections.abc import Sequence

from tools.failure import Failure
from tools.layout import ARCHITECTURE, BUILD, CONFIG, FUNCTIONS, LOCAL, ROOT, VENV, tool
from tools.machine import locked
from tools.processes import Word, clean_environment, run

HINT = (
    "Correct what the lines above name, then run this again. "
    "If they report a connection error, check the network: the build downloads crates."
)


def environment(**extra: str) -> dict[str, str]:
    """The environment for SAM: the project's own programs come first, and SAM sends no telemetry."""
    clean = clean_environment(SAM_CLI_TELEMETRY="0", __SAM_CLI_APP_DIR=str(ROOT / ".aws-sam" / "app"), **extra)
    clean["PATH"] = f"{VENV / 'bin'}:{clean['PATH']}"
    return clean


def check_config_command(config: str) -> list[Word]:
    """The command that checks a sekisho.toml with the functions' own parser."""
    return ["cargo", "run", "--quiet", "-p", "sekisho-domain", "--example", "check-config", "--", config]


def build() -> None:
    """Builds whatever has changed to `.aws-sam/build/<LogicalId>/bootstrap`."""
    check = check_config_command(os.path.relpath(CONFIG, ROOT))
    run("Checking the configuration", check, LOCAL / "logs" / "config.log", cwd=ROOT, env=environment(), hint=HINT)
    command: Sequence[Word] = [tool("sam"), "build", "--parameter-overrides", f"Architecture={ARCHITECTURE}"]
    with locked(ROOT / "template.yaml"):
        run("Building the functions", command, LOCAL / "logs" / "build.log", cwd=ROOT, env=environment(), hint=HINT)
        absent = [name for name in FUNCTIONS if not (BUILD / name / "bootstrap").is_file()]
    if absent:
        raise Failure(f"sam build succeeded without a bootstrap for {', '.join(absent)} in {BUILD}: see template.yaml")
