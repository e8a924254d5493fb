"""Runs `make test`: every check and test. The first failure ends the run."""

import shlex
import subprocess
import time
from collections.abc import Sequence

from tools import machine
from tools.build import build, environment
from tools.failure import Failure
from tools.layout import LOCAL, ROOT, tool
from tools.processes import Command, Word

# The folders and packages whose Python code is linted, formatted and type-checked.
PYTHON = ["tools", "local_cloud", "tests", "bench"]
CRATES = "Lints and tests of the crates"
# The first command compiles everything with lints, also benchmarks and examples. The second one runs the tests. No
# documentation has code to run.
CRATES_COMMANDS: list[list[Word]] = [
    ["cargo", "test", "--workspace", "--all-targets", "--locked", "--no-run"],
    ["cargo", "test", "--workspace", "--tests", "--locked"],
]
CRATES_ENVIRONMENT = {
    # clippy's compiler also writes the code, so one build serves lints and tests.
    "RUSTC_WORKSPACE_WRAPPER": str(ROOT / "tools" / "lints"),
    # Both settings make a build from scratch faster, and a build after a small change slower: use plain `cargo test`
    # while you work.
    "CARGO_INCREMENTAL": "0",
    "CARGO_PROFILE_DEV_DEBUG": "none",
}


def run_checks() -> None:
    """Runs every check and test."""
    # Several processes run the tests of a folder, a file at a time, because these tests wait for half of their time.
    pytest: list[Word] = [tool("python"), "-m", "pytest", "-q", "--dist", "loadfile", "-n", "3"]
    crates = Crates()
    try:
        _step("Format", ["cargo", "fmt", "--all", "--check"], crates)
        _step("Format of the Python code", [tool("ruff"), "format", "--check", "--quiet", *PYTHON], crates)
        _step("Lints of the Python code", [tool("ruff"), "check", "--quiet", *PYTHON], crates)
        _step("Types of the Python code", [tool("mypy"), *PYTHON], crates)
        deny: list[Word] = [machine.cargo_deny(), "--locked", "check", "licenses", "bans", "sources"]
        _step("Licences, bans and sources of the dependencies", deny, crates)
        build()
        # The end-to-end tests come last, because the tests of a single part find its defects sooner and name them
        # better.
        folders = {file.parent.name for file in (ROOT / "tests").glob("*/test_*.py")}
        for folder in sorted(folders, key=lambda name: (name == "end_to_end", name)):
            _step(f"Tests in tests/{folder}", [*pytest, f"tests/{folder}"], crates)
        crates.wait()
    finally:
        crates.end()
    print("\nEverything holds.", flush=True)


class Crates:
    """The lints and tests of the crates, which run beside all other steps.

    The release build links on one core, and the tests in Python wait most of the time. The compiler uses the rest, at a
    lower priority.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._log = LOCAL / "logs" / "crates.log"
        print(f"\n── {CRATES}: running beside the next steps (output: {self._log.relative_to(ROOT)})", flush=True)
        script = " && ".join(shlex.join(map(str, command)) for command in CRATES_COMMANDS)
        env = environment(**CRATES_ENVIRONMENT)
        self._command = Command(["nice", "sh", "-c", script], self._log, cwd=ROOT, env=env)

    def check(self) -> None:
        """Raises `Failure` if the command has failed."""
        code = self._command.code()
        if code:
            raise Failure(f"{self._command.last_lines(200)}\n{CRATES}: failed (all of its output: {self._log})")

    def wait(self) -> None:
        """Waits until the command has ended, and prints its results."""
        self._command.wait(None)
        self.check()
        for line in self._command.text().splitlines():
            if line.startswith(("test result:", "     Running")):
                print(line.strip(), flush=True)
        print(f"── {CRATES}: {time.monotonic() - self._began:.0f} s", flush=True)

    def end(self) -> None:
        """Ends the command if it still runs."""
        self._command.end()


def _step(title: str, words: Sequence[Word], crates: Crates) -> None:
    """Runs a command to its end, or until the lints or tests of the crates have failed beside it."""
    print(f"\n── {title}", flush=True)
    began = time.monotonic()
    command = Command(words, cwd=ROOT, env=environment())
    try:
        while True:
            try:
                code = command.wait(1)
                break
            except subprocess.TimeoutExpired:
                crates.check()
    finally:
        command.end()
    if code:
        raise Failure(f"{title}: failed ({' '.join(map(str, words))})")
    print(f"── {title}: {time.monotonic() - began:.0f} s", flush=True)
