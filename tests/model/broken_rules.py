"""Breaks one rule of event-relay, pipeline-starter or a sweep at a time, and measures how many histories the model
needs until it notices.

    python tests/model/broken_rules.py                    # every rule in broken_rules.toml
    python tests/model/broken_rules.py "search" "relay:"  # the rules whose names contain one of these texts

The rules of trains run only histories of trains, those of sweeps only histories of sweeps, and the others run only
histories of routes without waves.

The edits are made in a copy of the last commit, below `target/broken-rules`. The first run compiles everything, and
each rule compiles a function and the model. The rows of the table are printed as soon as they are known.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RULES = Path(__file__).with_suffix(".toml")
#: The longest time for all histories with one broken rule. A broken rule may keep a history from ending.
TIMEOUT_SECONDS = 900


@dataclass(frozen=True)
class Model:
    """A test with random histories, and the variable that sets their number."""

    package: str
    binary: str
    test: str
    variable: str


ROUTES = Model("sekisho-model", "histories", "runs_its_last_order", "SEKISHO_HISTORIES")
#: The models by the beginning of the names of their rules.
MODELS = {
    "train:": Model("sekisho-model", "histories", "of_a_train", "SEKISHO_TRAINS"),
    "sweep:": Model("artifact-checker", "checker", "after_every_history_of_sweeps", "SEKISHO_SWEEPS"),
}


@dataclass(frozen=True)
class Rule:
    """A rule, and the edit that breaks it."""

    name: str
    file: str
    old: str
    new: str

    def broken(self, text: str) -> str:
        """The text of the file with the rule broken."""
        count = text.count(self.old)
        if count != 1:
            raise SystemExit(f"{RULES.name}: {self.name}: `old` occurs {count} times in {self.file}: correct the rule")
        return text.replace(self.old, self.new)

    @property
    def model(self) -> Model:
        """The model whose histories can break the rule."""
        return next((model for start, model in MODELS.items() if self.name.startswith(start)), ROUTES)


def run_model(tree: Path, target: Path, histories: int, model: Model) -> str:
    """Runs the histories and returns how many of them the model needed."""
    command = ["cargo", "test", "--quiet", "--package", model.package, "--test", model.binary, model.test]
    variables = {"CARGO_TARGET_DIR": str(target), model.variable: str(histories), "RUST_BACKTRACE": "0"}
    build = subprocess.run(
        [*command, "--no-run"], cwd=tree, env=os.environ | variables, capture_output=True, text=True, check=False
    )
    if build.returncode != 0:
        raise SystemExit(f"the copy does not compile:\n{build.stderr}")
    try:
        run = subprocess.run(
            command,
            cwd=tree,
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return "a history does not end"
    if run.returncode == 0:
        return f"not in {histories:,}"
    if seed := re.search(r"^(?:\w+, )?seed (\d+): (.*)$", run.stdout, re.MULTILINE):
        print(f"  {seed.group(0)}", file=sys.stderr)
        return f"{int(seed.group(1)) + 1:,}"
    if rare := re.search(r"only \d+ [\w ]+ in \d+ histories", run.stdout):
        return rare.group(0)
    raise SystemExit(f"the model ended with an unknown error:\n{run.stdout}")


def main() -> None:
    """Runs the selected rules."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("names", nargs="*", help="parts of the names of rules")
    parser.add_argument("--histories", type=int, default=1_500, help="the most histories for each rule")
    target = REPOSITORY / "target" / "broken-rules"
    parser.add_argument("--target-dir", type=Path, default=target, help="the folder for the compiled files")
    arguments = parser.parse_args()
    rules = [Rule(**rule) for rule in tomllib.loads(RULES.read_text(encoding="utf-8"))["rule"]]
    selected = [rule for rule in rules if not arguments.names or any(name in rule.name for name in arguments.names)]

    tree = target / "tree"
    tree.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=REPOSITORY, capture_output=True, check=True)
    # Cargo compares times, so the copied files must be newer than what was compiled before.
    subprocess.run(["tar", "--extract", "--touch"], cwd=tree, input=archive.stdout, check=True)
    for model in {rule.model for rule in selected}:
        unbroken = run_model(tree, arguments.target_dir, arguments.histories, model)
        if not unbroken.startswith("not in"):
            raise SystemExit(f"the model already fails without a broken rule: {unbroken}")
    for rule in selected:
        path = tree / rule.file
        text = path.read_text(encoding="utf-8")
        path.write_text(rule.broken(text), encoding="utf-8")
        try:
            result = run_model(tree, arguments.target_dir, arguments.histories, rule.model)
        finally:
            path.write_text(text, encoding="utf-8")
        print(f"| {rule.name} | {result} |", flush=True)


if __name__ == "__main__":
    main()
