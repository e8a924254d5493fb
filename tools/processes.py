"""Runs commands under a keeper. However this process ends, each command ends with all its descendants."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tools.console import Step
from tools.failure import Failure
from tools.surroundings import clean_environment

KEEPER = Path(__file__).with_name("keeper.py")

Word = str | int | Path


class Command:
    """A command that runs under a keeper. Its output goes to a file or, by default, to this process's output.

    Without `env`, the command runs in the clean environment.
    """

    def __init__(
        self,
        command: Sequence[Word],
        output: Path | None = None,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.output = output
        if output:
            output.parent.mkdir(parents=True, exist_ok=True)
        with (output or Path(os.devnull)).open("wb") as file:
            out = file if output else None
            self._process = subprocess.Popen(
                [sys.executable, "-S", str(KEEPER), *map(str, command)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT if out else None,
                cwd=cwd,
                env=clean_environment() if env is None else env,
                start_new_session=True,  # a terminal's Ctrl-C reaches only this process, which then ends the command
            )
        assert self._process.stdin
        self._lifeline = self._process.stdin
        self.pid = self._process.pid

    def code(self) -> int | None:
        """The exit code; None while the command runs."""
        return self._process.poll()

    def wait(self, seconds: float | None) -> int:
        """Waits until the command ends, and returns its exit code."""
        return self._process.wait(seconds)

    def release(self) -> None:
        """Lets the command outlive this process."""
        self._lifeline.write(b"keep\n")
        self._lifeline.close()

    def end(self) -> None:
        """Ends the command and all its descendants, and waits for their end."""
        if not self._lifeline.closed:
            self._lifeline.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def text(self) -> str:
        """The output so far."""
        return self.output.read_text(errors="replace") if self.output else ""

    def last_lines(self, count: int = 25) -> str:
        """The last lines of the output."""
        return "\n".join(self.text().splitlines()[-count:])


def run(
    title: str,
    command: Sequence[Word],
    output: Path,
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    hint: str = "",
    progress: Callable[[str], str] | None = None,
) -> str:
    """Runs a command as a step, and returns its output, which also goes to a file. A failure shows the last lines.

    While the command runs, a terminal shows its last line. With `progress`, the step reports what that function reads
    in the last line instead, and not only to a terminal; an empty text leaves the report as it is.
    """
    with Step(title) as step:
        running = Command(command, output, cwd=cwd, env=env)
        try:
            while True:
                try:
                    code = running.wait(0.2)
                    break
                except subprocess.TimeoutExpired:
                    line = running.last_lines(1).strip()
                    if progress is None:
                        step.detail = line
                    else:
                        step.report(progress(line) or step.detail)
        finally:
            running.end()
        if code:
            parts = [f"{title} failed ({command[0]} ended with {code}). Its last lines:", running.last_lines()]
            if hint:
                parts.append(hint)
            raise Failure("\n".join([*parts, f"All of its output: {output}"]))
    return running.text()


def started_at(pid: int) -> int | None:
    """The time at which the process of this id started, in clock ticks; None if there is no such process.

    The id alone does not identify a process, because the kernel reuses ids.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])
