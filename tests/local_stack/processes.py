"""Commands, each under a keeper: whatever ends this process ends them and all that came of them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from .console import Step

KEEPER = Path(__file__).with_name("keeper.py")


class Failure(Exception):
    """Something that the reader has to know or mend; its text says what to do."""


class Kept:
    """A command that runs under a keeper, its output in a file; without one, it goes where ours goes."""

    def __init__(self, command, output=None, *, cwd=None, env=None):
        self.output = None if output is None else Path(output)
        if self.output:
            self.output.parent.mkdir(parents=True, exist_ok=True)
        with open(self.output or os.devnull, "wb") as file:
            out = file if self.output else None
            self._process = subprocess.Popen(
                [sys.executable, "-S", str(KEEPER), *map(str, command)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT if out else None,
                cwd=cwd,
                env=env,
                start_new_session=True,  # a terminal's Ctrl-C comes to us, and we end it in order
            )
        self.pid = self._process.pid

    def code(self):
        """Its exit code, or none while it runs."""
        return self._process.poll()

    def wait(self, seconds):
        return self._process.wait(seconds)

    def let_go(self):
        """From now on it outlives us."""
        self._process.stdin.write(b"keep\n")
        self._process.stdin.close()

    def end(self):
        """Ends it and all that came of it, and waits for that."""
        if not self._process.stdin.closed:
            self._process.stdin.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.wait()

    def last_lines(self, count=25):
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-count:])


def run(title, command, output, *, cwd=None, env=None, hint=""):
    """Runs a command as a step; its output goes to a file, of which a failure shows the end."""
    with Step(title) as step:
        kept = Kept(command, output, cwd=cwd, env=env)
        try:
            while True:
                try:
                    code = kept.wait(0.2)
                    break
                except subprocess.TimeoutExpired:
                    step.detail = kept.last_lines(1).strip()
        finally:
            kept.end()
        if code:
            parts = [f"{title} failed ({command[0]} ended with {code}). Its last lines:", kept.last_lines()]
            if hint:
                parts.append(hint)
            raise Failure("\n".join([*parts, f"All of its output: {kept.output}"]))
    return kept.output.read_text(errors="replace")


def started_at(pid):
    """When the process of this id started, in ticks: an id alone may have gone to another. None if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def clean_environment(**extra):
    """The environment without AWS settings of the reader's own: nothing here may reach a real account."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, **extra}
