"""Runs one command and answers for every process that comes of it.

    keeper.py COMMAND [ARGUMENT…]      with a pipe, the lifeline, as standard input

The command and all its descendants end when the command ends, when the keeper gets SIGTERM, or when the lifeline closes,
which happens however its holder dies, by SIGKILL too. A holder that writes `keep` into the lifeline lets go: from then on
only SIGTERM ends them. Standard library only: it runs before anything is installed.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 10

libc = ctypes.CDLL(None, use_errno=True)


def end_with_parent(signal_number=signal.SIGTERM):
    """Makes the kernel send this process the signal when its parent dies."""
    parent = os.getppid()
    libc.prctl(PR_SET_PDEATHSIG, signal_number, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel knew
        os.kill(os.getpid(), signal_number)


def descendants(root):
    """Process ids below `root`, from /proc."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                    # The name may hold spaces and brackets: what counts comes after the last bracket.
                    parent = int(stat.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry))
    found, ahead = [], [root]
    while ahead:
        below = children.get(ahead.pop(), [])
        found += below
        ahead += below
    return found


def main(command):
    # Orphans of the command come to the keeper instead of init, so that none escapes.
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    lifeline = os.dup(0)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=end_with_parent)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127

    def send(signal_number):
        try:
            os.kill(child.pid, signal_number)
        except ProcessLookupError:
            pass

    def end(*_):
        send(signal.SIGTERM)
        timer = threading.Timer(GRACE_SECONDS, send, [signal.SIGKILL])
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch():
        said = b""
        while data := os.read(lifeline, 64):
            said += data
        if said.strip() != b"keep":
            end()

    threading.Thread(target=watch, daemon=True).start()
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child.pid:
            break
    while left := descendants(os.getpid()):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass
        time.sleep(0.01)
    code = os.waitstatus_to_exitcode(status)
    # As a shell has it: a signal's number above 128. _exit: the watching thread may still be reading.
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
