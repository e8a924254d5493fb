"""Runs one command, and ends every process that descends from it.

    keeper.py COMMAND [ARGUMENT…]      standard input must be a pipe, called the lifeline

The command and all its descendants end when the command ends, when the keeper gets SIGTERM, or when the lifeline
closes. The lifeline closes when the process that holds its other end ends, even by SIGKILL. If that process writes
`keep` into the lifeline first, the command is released: from then on, only SIGTERM to the keeper stops the command.
This file uses the standard library only, because it runs before the project's packages are installed.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 10

libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(signal_number: int = signal.SIGTERM) -> None:
    """Makes the kernel send this process the signal when its parent ends."""
    parent = os.getppid()
    libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:  # the parent ended before the call of prctl
        os.kill(os.getpid(), signal_number)


def outlive_parent() -> None:
    """Reverts `end_with_parent`."""
    libc.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)


def descendants(root: int) -> list[int]:
    """The ids of all processes below `root`, from /proc."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text(encoding="utf-8", errors="replace")
            except OSError:
                continue
            # The process's name may contain spaces and brackets, so the other fields are read after the last bracket.
            parent = int(status.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    ahead = [root]
    while ahead:
        below = children.get(ahead.pop(), [])
        found += below
        ahead += below
    return found


def keep(command: list[str]) -> int:
    """Runs the command, and exits with the command's exit code. Returns only if the command can't be started."""
    # Orphaned descendants of the command become children of the keeper instead of init, so none of them escapes.
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    lifeline = os.dup(0)
    try:
        # preexec_fn is safe here, because no thread has been started yet.
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=end_with_parent)  # noqa: PLW1509
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127

    def send(signal_number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal_number)

    def end(*_: object) -> None:
        send(signal.SIGTERM)
        timer = threading.Timer(GRACE_SECONDS, send, [signal.SIGKILL])
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        received = b""
        while data := os.read(lifeline, 64):
            received += data
        if received.strip() != b"keep":
            end()

    threading.Thread(target=watch, daemon=True).start()
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child.pid:
            break
    end_descendants()
    code = os.waitstatus_to_exitcode(status)
    # As in a shell, the exit code of a signal is 128 plus its number. `_exit` does not wait for the watching thread,
    # which may still be reading.
    os._exit(code if code >= 0 else 128 - code)


def end_descendants() -> None:
    """Ends all processes that the command left behind."""
    while left := descendants(os.getpid()):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(keep(sys.argv[1:]))
