"""Builds the functions for `make up` and `make demo`, where people wait for the first build.

If the release binaries are up to date, they are used. Otherwise cargo builds the profile `local` of Cargo.toml. The
release build is `sam build`, which runs one silent build for each binary. Here a single cargo builds all of them, so it
can say how far it is. Only the paths to the code differ in the template that is deployed.
"""

import re
import shutil
from pathlib import Path
from typing import Any

from samcli.yamlhelper import yaml_dump, yaml_parse

from tools.build import HINT, TEMPLATE, check_config, digest_of_sources, environment, release_digest
from tools.layout import BINARIES, BUILD, CONFIG, FUNCTIONS, LOCAL, ROOT
from tools.machine import locked
from tools.processes import Word, run

PROFILE = "local"
# samconfig.toml has no environment `local`, so `make deploy` does not write to this folder.
FOLDER = ROOT / ".aws-sam" / "local"
# cargo draws its bar even if its output is a file: `Building [==>   ] 12/227: ring, syn`.
BAR = {"CARGO_TERM_PROGRESS_WHEN": "always", "CARGO_TERM_PROGRESS_WIDTH": "120"}
COUNT = re.compile(r"Building \[[=> ]*\] (\d+)/(\d+)(?:: (.+))?")


def build_for_local_use() -> Path:
    """Builds what is deployed locally, and returns the path of the built template."""
    check_config()
    with locked(TEMPLATE):
        if release_digest() == digest_of_sources():
            binaries = {name: BUILD / name / "bootstrap" for name in FUNCTIONS}
        else:
            _build_binaries()
            binaries = {name: ROOT / "target" / PROFILE / binary for name, binary in FUNCTIONS.items()}
        for name, binary in binaries.items():
            bootstrap = FOLDER / name / "bootstrap"
            bootstrap.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(binary, bootstrap)
        return write_template()


def _build_binaries() -> None:
    names = " ".join(BINARIES)
    print(f"There are no release binaries of these sources (`make build`), so a quick build makes {names}.", flush=True)
    log = LOCAL / "logs" / "local-build.log"
    env = environment(**BAR)
    run("Building the functions", build_command(), log, cwd=ROOT, env=env, hint=HINT, progress=crates_done)


def build_command() -> list[Word]:
    """The command that builds the functions in the profile for local use."""
    return ["cargo", "build", "--profile", PROFILE, "--bins"]


def crates_done(line: str) -> str:
    """How far cargo is, and at which crates, by a line of its output; empty if the line does not say it."""
    found = COUNT.search(line)
    if not found:
        return ""
    done, count, crates = found.groups()
    return f"{done} of {count} crates" + (f": {crates.strip()}" if crates else "")


def write_template() -> Path:
    """Writes the template with the paths of the built functions, and returns its path."""
    template: dict[str, Any] = yaml_parse(TEMPLATE.read_text())
    for name in FUNCTIONS:
        template["Resources"][name]["Properties"]["CodeUri"] = name
    template["Resources"]["Config"]["Properties"]["ContentUri"] = str(CONFIG.parent)
    written = FOLDER / TEMPLATE.name
    written.write_text(yaml_dump(template))
    return written
