"""Whatever ends the holder of a command ends the command and all that came of it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.processes import Kept, started_at

# A parent that ends in time, a child in a session of its own, a grandchild that nobody waits for.
FAMILY = "echo $$; setsid sh -c 'echo $$; sleep 300' & (sleep 300 & echo $!) ; wait"
SECONDS = 20


def until(probe):
    deadline = time.monotonic() + SECONDS
    while not (found := probe()):
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)
    return found


def family(output):
    """The three process ids, once all of them have said so."""
    output = Path(output)
    return until(lambda: output.exists() and len(ids := [int(one) for one in output.read_text().split()]) == 3 and ids)


def all_gone(ids):
    return all(started_at(one) is None for one in ids)


def test_end_ends_all_that_came_of_it(tmp_path):
    kept = Kept(["sh", "-c", FAMILY], tmp_path / "out")
    ids = family(tmp_path / "out")
    kept.end()
    assert all_gone([kept.pid, *ids])


def test_what_a_command_leaves_behind_ends_with_it(tmp_path):
    kept = Kept(["sh", "-c", "sleep 300 & echo $!; exit 3"], tmp_path / "out")
    assert kept.wait(SECONDS) == 3
    assert all_gone([int((tmp_path / "out").read_text())])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_killing_the_holder_ends_it(tmp_path, number):
    holder = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from tools.processes import Kept
kept = Kept(["sh", "-c", {FAMILY!r}], {str(tmp_path / "out")!r})
kept.wait(300)
"""
    process = subprocess.Popen([sys.executable, "-c", holder])
    ids = family(tmp_path / "out")
    assert not all_gone(ids)
    process.send_signal(number)
    process.wait(SECONDS)
    until(lambda: all_gone(ids))


def test_let_go_it_outlives_its_holder_and_sigterm_ends_it(tmp_path):
    holder = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from tools.processes import Kept
kept = Kept(["sh", "-c", {FAMILY!r}], {str(tmp_path / "out")!r})
kept.let_go()
print(kept.pid)
"""
    done = subprocess.run([sys.executable, "-c", holder], capture_output=True, text=True, timeout=SECONDS, check=True)
    ids = family(tmp_path / "out")
    assert started_at(int(done.stdout)) is not None
    os.kill(int(done.stdout), signal.SIGTERM)
    until(lambda: all_gone([int(done.stdout), *ids]))


def test_a_command_that_is_not_there_says_so(tmp_path):
    kept = Kept(["no-such-command"], tmp_path / "out")
    assert kept.wait(SECONDS) == 127
    assert "no-such-command: No such file" in (tmp_path / "out").read_text()
