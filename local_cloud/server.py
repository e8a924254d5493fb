"""The server process, which runs the emulator with all patches and stand-ins."""

import asyncio
import ctypes
import os
import signal
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config
from ministack import app as ministack

from local_cloud import (
    alarms,
    aliases,
    authorization,
    batch_operations,
    board,
    buses,
    chat_sessions,
    chatbot,
    codecommit,
    ecr,
    environments,
    function_images,
    functions,
    iam,
    identity_store,
    metadata,
    organization,
    permission_sets,
    policy_versions,
    s3,
    sessions,
    trail,
)
from local_cloud.codepipeline import api as codepipeline
from local_cloud.codepipeline import state
from local_cloud.services import Refused
from tools.layout import ACCOUNTS, REGION

PR_SET_PDEATHSIG = 1
OWN_PATHS = (
    board.PATHS
    | chatbot.PATHS
    | chat_sessions.PATHS
    | codecommit.PATHS
    | functions.PATHS
    | metadata.PATHS
    | permission_sets.PATHS
    | policy_versions.PATHS
    | s3.PATHS
    | state.PATHS
)


def serve(listener: int, port: int, data: Path) -> int:
    """Serves on the listening socket until the process is killed."""
    parent = os.getppid()
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return 1
    functions.install()
    environments.install()
    iam.install()
    policy_versions.install()
    organization.install()
    authorization.install()
    s3.install()
    batch_operations.install()
    buses.install()
    alarms.install()
    chatbot.install()
    chat_sessions.install()
    ecr.install()
    function_images.install()
    aliases.install()
    sessions.install()
    identity_store.install()
    permission_sets.install()
    trail.install()
    metadata.install()
    codecommit.install(data / "repositories", ACCOUNTS["repository"], REGION, port)
    codepipeline.install()

    config = Config()
    config.bind = [f"fd://{listener}"]
    config.keep_alive_timeout = 75
    config.accesslog = None
    # Without a trigger, hypercorn would handle SIGTERM itself, and wait for open connections. This trigger never fires.
    never = asyncio.Event().wait
    asyncio.run(hypercorn_serve(application, config, shutdown_trigger=never))
    return 0


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Serves the local cloud's own paths, which no AWS client uses, and leaves all other requests to the emulator."""
    _, top, kind, rest = [*scope.get("path", "").split("/", 3), "", "", ""][:4]
    if scope["type"] != "http" or top != "_local-cloud" or kind not in OWN_PATHS:
        await ministack.app(scope, receive, send)
        return
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    try:
        status, answer = await asyncio.to_thread(OWN_PATHS[kind], rest, body)
    except (KeyError, ValueError, Refused) as error:
        status, answer = 400, f"{type(error).__name__}: {error}\n"
    headers = board.HEADERS if kind in board.PATHS and status == 200 else [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.encode()})
