"""The Makefile and the folder tools/ have the same commands."""

import os
import re
import subprocess
import sys

import pytest

from tools.layout import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^([a-z-]+): ##", MAKEFILE, re.MULTILINE)


def run(*command):
    """Runs the project's Python with these arguments, in another folder."""
    return subprocess.run([sys.executable, *command], cwd="/", capture_output=True, text=True, timeout=60, check=False)


def test_every_target_runs_its_command():
    assert re.findall(r"@\$\(TOOLS\) ([a-z-]+)", MAKEFILE) == TARGETS
    assert {"demo", "test", "deploy", "doctor"} <= set(TARGETS)


def test_help_describes_every_target():
    done = run(ROOT / "tools", "help", ROOT / "Makefile")
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()] == TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_the_command_of_the_target_exists(target):
    done = run(ROOT / "tools", target, "--help")
    assert done.returncode == 0, done.stderr
    assert f"usage: make {target}" in done.stdout


def make_would_run(*arguments, **variables):
    """Returns the command line that make would run."""
    command = ["make", "--no-print-directory", "--dry-run", *arguments]
    environ = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        command, cwd=ROOT, env=environ | variables, capture_output=True, text=True, timeout=60, check=True
    ).stdout


def test_only_the_command_line_lets_clean_start_remove_without_a_question():
    """A variable that a shell happens to export must not confirm the removal."""
    assert "--write" in make_would_run("clean-start", "ENV=test", "WRITE=1")
    assert "--write" not in make_would_run("clean-start", "ENV=test", WRITE="1")
    assert "--write" not in make_would_run("clean-start", "ENV=test", "WRITE=0")


def test_an_unknown_command_is_refused_with_the_known_ones():
    done = run(ROOT / "tools", "dmeo")
    assert done.returncode == 2
    assert "invalid choice: 'dmeo'" in done.stderr
    assert all(target in done.stderr for target in TARGETS)


@pytest.mark.parametrize("command", ["where", "hold"])
def test_a_missing_option_is_named_as_make_takes_it(command):
    done = run(ROOT / "tools", command)
    assert done.returncode == 2
    assert "--env" in done.stderr and done.stderr.endswith("write an option such as --env NAME as ENV=NAME.\n")
