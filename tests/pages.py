"""The commands in a page of the documentation, and a terminal in which they run as a reader types them."""

import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

from tools.git import DEVELOPER, EMAIL
from tools.layout import ROOT
from tools.surroundings import clean_environment

# These commands start, build and end what a test's own stack stands for.
AROUND = re.compile(r"make (up|build|down)\b.*")
# What stands between the outputs of two blocks.
BORDER = "\x1e"
# The end of a question in a terminal: `[default]:` or `[y/N]:`.
QUESTION = re.compile(r"[^\n]*\]:? ?$")


class Page:
    """A page with blocks of commands (sh), each perhaps followed by a part of its output (text)."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text()
        found = re.findall(r"^```(sh|text)\n(.*?)^```", self.text, re.MULTILINE | re.DOTALL)
        self.steps: list[tuple[str, str]] = []
        for kind, block in found:
            if kind == "sh":
                self.steps.append((block, ""))
            else:
                commands, before = self.steps[-1]
                assert not before, f"two outputs follow one block: {block}"
                self.steps[-1] = (commands, block)

    @property
    def commands(self) -> list[str]:
        """The commands and outputs without their comments, which are in the language of the page."""
        return [re.sub(r"^\s*#.*\n|[ ]+# .*$", "", f"{sh}\n{text}", flags=re.MULTILINE) for sh, text in self.steps]

    @property
    def around(self) -> list[str]:
        """The commands that a test's own stack stands for."""
        return [line for commands, _ in self.steps for line in commands.splitlines() if AROUND.fullmatch(line)]

    @property
    def answers(self) -> dict[str, str]:
        """The answers in the page's table of questions: the name in the question, and what the reader types."""
        return dict(re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", self.text, re.MULTILINE))

    def follow(self, folder: Path, **answers: str) -> None:
        """Runs the blocks in one shell of a terminal; fails if a command fails, or the output is not as printed.

        The stack is in the folder, instead of in .local. `answers` are answers that depend on this machine.
        """
        blocks = [re.sub(AROUND, ":", commands) for commands, _ in self.steps]
        blocks = [re.sub(r"(\$PWD/)?\.local\b", str(folder), commands) for commands in blocks]
        script = f"printf '{BORDER}'\n".join(blocks)
        code, output = _in_terminal(script, self.answers | answers)
        outputs = output.split(BORDER)
        assert code == 0, f"this command failed, or one after it: {blocks[len(outputs) - 1]}\n{output}"
        for (commands, printed), actual in zip(self.steps, outputs, strict=True):
            for line in printed.splitlines():
                pattern = ".*".join(map(re.escape, line.split("…")))
                assert re.search(pattern, actual), f"after {commands}\nthe page prints: {line}\nthe output is: {actual}"


def _in_terminal(script: str, answers: dict[str, str]) -> tuple[int, str]:
    """Runs a script in a terminal, and answers each question; by Enter, if there is no answer to it."""
    env = clean_environment()
    # A reader has a name for commits, and no setting that hides the role of an instance.
    env |= {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in _NAMES.items()}
    del env["AWS_EC2_METADATA_DISABLED"]
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "-euc", script], cwd=ROOT, env=env, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    output, line, deadline = "", "", time.monotonic() + 600
    try:
        while select.select([ours], [], [], max(0, deadline - time.monotonic()))[0]:
            try:
                some = os.read(ours, 4096).decode(errors="replace")
            except OSError:  # Every process of the terminal has ended.
                break
            output, line = output + some, (line + some).rpartition("\n")[2]
            if question := QUESTION.fullmatch(line):
                answer = next((text for name, text in answers.items() if name in question[0]), "")
                os.write(ours, f"{answer}\n".encode())
                line = ""
        return shell.wait(10), re.sub(r"\x1b\[[0-9;]*m|\r", "", output)
    finally:
        shell.kill()
        os.close(ours)


_NAMES = {"NAME": DEVELOPER, "EMAIL": EMAIL}
