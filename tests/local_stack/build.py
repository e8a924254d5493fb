"""The four functions, built by the real `sam build` for this machine."""

import os

from .layout import ARCHITECTURE, BUILD, CONFIG, FUNCTIONS, LOCAL, ROOT, VENV, tool
from .processes import Failure, clean_environment, run
from .tools import alone

MEND = "Mend what the lines above name, then run this again. If they speak of a connection: crates are downloaded."


def environment(**extra):
    """For SAM: the project's own tools first, and nothing sent or kept elsewhere."""
    clean = clean_environment(SAM_CLI_TELEMETRY="0", __SAM_CLI_APP_DIR=str(ROOT / ".aws-sam" / "app"), **extra)
    clean["PATH"] = f"{VENV / 'bin'}:{clean['PATH']}"
    return clean


def build():
    """Builds what has changed to `.aws-sam/build/<LogicalId>/bootstrap`."""
    check = ["cargo", "run", "--quiet", "-p", "sekisho-domain", "--example", "check-config", "--", os.path.relpath(CONFIG, ROOT)]
    run("Checking the configuration", check, LOCAL / "logs" / "config.log", cwd=ROOT, env=environment(), hint=MEND)
    command = [tool("sam"), "build", "--parameter-overrides", f"Architecture={ARCHITECTURE}"]
    with alone(ROOT / "template.yaml"):
        run("Building the functions", command, LOCAL / "logs" / "build.log", cwd=ROOT, env=environment(), hint=MEND)
        absent = [name for name in FUNCTIONS if not (BUILD / name / "bootstrap").is_file()]
    if absent:
        raise Failure(f"sam build ended well but left no bootstrap of {', '.join(absent)} in {BUILD}: see template.yaml")
