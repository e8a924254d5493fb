"""Starts the local cloud as a process, finds a running one, and ends it."""

import json
import os
import shutil
import signal
import time
from typing import TypedDict

from tools.build import environment
from tools.console import Step
from tools.failure import Failure
from tools.layout import LOCAL, LOCAL_CLOUD, Places, tool
from tools.machine import locked
from tools.ports import free_port
from tools.processes import Command, Word, started_at

READY_SECONDS = 60
END_SECONDS = 30


class Running(TypedDict):
    """The record of a running cloud: the process's id, the time of its start in clock ticks, port and layout."""

    pid: int
    started: int | None
    port: int
    layout: str


def start(places: Places, port: int | None = None) -> tuple[Command, int]:
    """Starts a cloud that keeps its state in the folder; returns its process and its port once it serves."""
    port = free_port(port)
    endpoint = f"http://127.0.0.1:{port}"
    # The Lambda functions read SEKISHO_CONFIG, which they inherit from the cloud's process.
    env = environment(AWS_ENDPOINT_URL=endpoint, SEKISHO_CONFIG=str(places.sekisho))
    command: list[Word] = [tool("python"), LOCAL_CLOUD, "--port", port, "--data", places.folder]
    with Step("Starting the local cloud"):
        cloud = Command(command, places.logs / "server.log", cwd=places.folder, env=env)
        try:
            deadline = time.monotonic() + READY_SECONDS
            while "ready" not in cloud.text().splitlines():
                if cloud.code() is not None or time.monotonic() > deadline:
                    raise Failure(
                        f"The local cloud did not start. Its last lines:\n{cloud.last_lines()}\nAll: {cloud.output}"
                    )
                time.sleep(0.1)
        except BaseException:
            cloud.end()
            raise
    return cloud, port


def remember(places: Places, cloud: Command, port: int, layout: str = "three") -> None:
    """Records the cloud's process, so that later commands find the process."""
    about: Running = {"pid": cloud.pid, "started": started_at(cloud.pid), "port": port, "layout": layout}
    places.cloud.write_text(json.dumps(about) + "\n")


def running(places: Places) -> Running | None:
    """The recorded cloud; None if its process has ended."""
    try:
        about: Running = json.loads(places.cloud.read_text())
        started = started_at(about["pid"])
    except (OSError, ValueError, KeyError):
        return None
    return about if started is not None and started == about["started"] else None


def end(places: Places) -> bool:
    """Ends the folder's cloud if it runs; returns whether it ran."""
    about = running(places)
    if about is None:
        return False
    os.kill(about["pid"], signal.SIGTERM)
    deadline = time.monotonic() + END_SECONDS
    while started_at(about["pid"]) == about["started"]:
        if time.monotonic() > deadline:
            raise Failure(f"The local cloud (process {about['pid']}) did not end in {END_SECONDS} s.")
        time.sleep(0.05)
    return True


def clear(places: Places) -> None:
    """Removes the files of a stack from its folder."""
    for entry in places.folder.glob("*") if places.folder.is_dir() else ():
        # The folder of `make up` also contains the folders of other stacks, the logs of builds and the picture of the
        # demo, which must stay.
        if places.folder == LOCAL and entry.name in ("demo", "test", "logs", "board.png"):
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def down() -> None:
    """Runs `make down`."""
    places = Places(LOCAL)
    LOCAL.mkdir(exist_ok=True)
    with locked(LOCAL, "`make up` is running: end it first."):
        ran = end(places)
        clear(places)
    print("The local cloud has ended, and its files are removed." if ran else "No local cloud was running.")
