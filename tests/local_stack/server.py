"""The local cloud as a process: started, found again, ended."""

import json
import shutil
import signal
import socket
import time
from os import kill

from .build import environment
from .console import Step
from .layout import LOCAL, ROOT, Places, tool
from .processes import Failure, Kept, started_at
from .tools import alone

PROGRAM = ROOT / "tests" / "local-cloud" / "cloud.py"
READY_SECONDS = 60
END_SECONDS = 30


def free_port(wanted=None):
    """A loopback port that nobody listens on; the wanted one, or a failure that says what to do."""
    with socket.socket() as probe:
        # As servers do: a port in TIME_WAIT counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as error:
            raise Failure(
                f"Port {wanted} can't be used ({error.strerror}): leave PORT out for a free one, or name another. "
                f"Who holds it: ss -ltnp 'sport = :{wanted}'"
            ) from None
        return probe.getsockname()[1]


def start(places, port=None):
    """Starts a cloud whose state lies in the folder; gives its process and its port once it serves."""
    port = free_port(port)
    endpoint = f"http://127.0.0.1:{port}"
    # What this process has, its functions inherit.
    env = environment(AWS_ENDPOINT_URL=endpoint, SEKISHO_CONFIG=str(places.sekisho))
    command = [tool("python"), PROGRAM, "--port", port, "--data", places.folder]
    with Step("Starting the local cloud"):
        cloud = Kept(command, places.logs / "server.log", cwd=places.folder, env=env)
        try:
            deadline = time.monotonic() + READY_SECONDS
            while "ready" not in cloud.output.read_text(errors="replace").splitlines():
                if cloud.code() is not None or time.monotonic() > deadline:
                    raise Failure(f"The local cloud did not start. Its last lines:\n{cloud.last_lines()}\nAll: {cloud.output}")
                time.sleep(0.1)
        except BaseException:
            cloud.end()
            raise
    return cloud, port


def remember(places, cloud, port):
    """Writes down which process it is, so that later commands find it."""
    about = {"pid": cloud.pid, "started": started_at(cloud.pid), "port": port}
    places.cloud.write_text(json.dumps(about) + "\n")


def running(places):
    """What was written down, if that very process still runs."""
    try:
        about = json.loads(places.cloud.read_text())
        started = started_at(about["pid"])
    except (OSError, ValueError, KeyError):
        return None
    return about if started is not None and started == about["started"] else None


def end(places):
    """Ends the cloud of the folder, if it runs; gives whether it did."""
    about = running(places)
    if about is None:
        return False
    kill(about["pid"], signal.SIGTERM)
    deadline = time.monotonic() + END_SECONDS
    while started_at(about["pid"]) == about["started"]:
        if time.monotonic() > deadline:
            raise Failure(f"The local cloud (process {about['pid']}) did not end in {END_SECONDS} s.")
        time.sleep(0.05)
    return True


def clear(places):
    """Removes what a stack left in its folder."""
    for entry in places.folder.glob("*") if places.folder.is_dir() else ():
        # Other stacks have their folders within `make up`'s.
        if places.folder == LOCAL and entry.name in ("demo", "test", "logs"):
            continue
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def down():
    """`make down`."""
    places = Places(LOCAL)
    LOCAL.mkdir(exist_ok=True)
    with alone(LOCAL, "A `make up` is under way: end that first."):
        ran = end(places)
        clear(places)
    print("The local cloud has ended; what it held is gone." if ran else "No local cloud was running.")
