"""Runs `make test`: every check and test in order. The first failure ends the run."""

import time
from collections.abc import Sequence

from tools import machine
from tools.build import build, environment
from tools.failure import Failure
from tools.layout import ROOT, tool
from tools.processes import Command, Word

# The folders and packages whose Python code is linted, formatted and type-checked.
PYTHON = ["tools", "local_cloud", "tests", "bench"]


def run_checks() -> None:
    """Runs every check and test."""
    pytest: list[Word] = [tool("python"), "-m", "pytest", "-q"]
    _step("Format", ["cargo", "fmt", "--all", "--check"])
    _step("Format of the Python code", [tool("ruff"), "format", "--check", "--quiet", *PYTHON])
    _step("Lints of the Python code", [tool("ruff"), "check", "--quiet", *PYTHON])
    _step("Types of the Python code", [tool("mypy"), *PYTHON])
    _step("Lints", ["cargo", "clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
    # The lints have compiled the examples, and no documentation has code to run.
    _step("Tests of the crates", ["cargo", "test", "--workspace", "--tests", "--locked"])
    deny = machine.cargo_deny()
    _step("Licences, bans and sources of the dependencies", [deny, "--locked", "check", "licenses", "bans", "sources"])
    build()
    # The end-to-end tests come last, because the tests of a single part find its defects sooner and name them better.
    folders = {file.parent.name for file in (ROOT / "tests").glob("*/test_*.py")}
    for folder in sorted(folders, key=lambda name: (name == "end_to_end", name)):
        _step(f"Tests in tests/{folder}", [*pytest, f"tests/{folder}"])
    print("\nEverything holds.", flush=True)


def _step(title: str, words: Sequence[Word]) -> None:
    print(f"\n── {title}", flush=True)
    began = time.monotonic()
    command = Command(words, cwd=ROOT, env=environment())
    try:
        code = command.wait(None)
    finally:
        command.end()
    if code:
        raise Failure(f"{title}: failed ({' '.join(map(str, words))})")
    print(f"── {title}: {time.monotonic() - began:.0f} s", flush=True)
