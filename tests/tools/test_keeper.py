"""If the holder of a command ends, for whatever reason, the command and all its descendants end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.layout import ROOT
from tools.processes import Command, started_at

# The parent waits for its child, the child has its own session, and nobody waits for the grandchild.
FAMILY = "echo $$; setsid sh -c 'echo $$; sleep 300' & (sleep 300 & echo $!) ; wait"
SECONDS = 60


def until(probe):
    deadline = time.monotonic() + SECONDS
    while not (found := probe()):
        assert time.monotonic() < deadline, f"this took longer than {SECONDS} s"
        time.sleep(0.02)
    return found


def family(output):
    """Returns the ids of the three processes, once each process has printed its id."""
    output = Path(output)
    return until(lambda: output.exists() and len(ids := [int(one) for one in output.read_text().split()]) == 3 and ids)


def all_gone(ids):
    return all(started_at(one) is None for one in ids)


def test_end_ends_all_descendants(tmp_path):
    command = Command(["sh", "-c", FAMILY], tmp_path / "out")
    ids = family(tmp_path / "out")
    command.end()
    assert all_gone([command.pid, *ids])


def test_background_processes_end_with_their_command(tmp_path):
    command = Command(["sh", "-c", "sleep 300 & echo $!; exit 3"], tmp_path / "out")
    assert command.wait(SECONDS) == 3
    assert all_gone([int((tmp_path / "out").read_text())])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_killing_the_holder_ends_the_command(tmp_path, number):
    holder = f"""
import sys; from pathlib import Path; sys.path.insert(0, {str(ROOT)!r})
from tools.processes import Command
command = Command(["sh", "-c", {FAMILY!r}], Path({str(tmp_path / "out")!r}))
command.wait(300)
"""
    process = subprocess.Popen([sys.executable, "-c", holder])
    ids = family(tmp_path / "out")
    assert not all_gone(ids)
    process.send_signal(number)
    process.wait(SECONDS)
    until(lambda: all_gone(ids))


def test_a_released_command_outlives_its_holder_until_sigterm(tmp_path):
    holder = f"""
import sys; from pathlib import Path; sys.path.insert(0, {str(ROOT)!r})
from tools.processes import Command
command = Command(["sh", "-c", {FAMILY!r}], Path({str(tmp_path / "out")!r}))
command.release()
print(command.pid)
"""
    done = subprocess.run([sys.executable, "-c", holder], capture_output=True, text=True, timeout=SECONDS, check=True)
    ids = family(tmp_path / "out")
    assert started_at(int(done.stdout)) is not None
    os.kill(int(done.stdout), signal.SIGTERM)
    until(lambda: all_gone([int(done.stdout), *ids]))


def test_a_missing_command_is_reported(tmp_path):
    command = Command(["no-such-command"], tmp_path / "out")
    assert command.wait(SECONDS) == 127
    assert "no-such-command: No such file" in (tmp_path / "out").read_text()
