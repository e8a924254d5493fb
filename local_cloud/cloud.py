#!/usr/bin/env python3
"""The local cloud: one loopback endpoint that serves AWS to three accounts, with IAM enforced.

    .venv/bin/python tests/local-cloud/cloud.py --port 4566 --data .local

It is the emulator `ministack` as it comes, plus what it lacks, patched from outside by the modules
beside this file. docs/local-stack.md says what is stood in for and what that does not show.

Two processes: this one watches, the other serves. The emulator's functions are children of the
server and outlive it when it is killed, so both stay in one process group, and whichever of the two
ends, however it ends, takes the group with it.
"""

import argparse
import asyncio
import ctypes
import importlib.metadata
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

# What is patched is not ministack's interface, so another version is another program.
MINISTACK = "1.5.33"
REGION = "ap-northeast-1"
REPOSITORY_ACCOUNT = "111111111111"
START_SECONDS = 60
PR_SET_PDEATHSIG = 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True, help="loopback port to serve on")
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder for repositories, log and scratch")
    parser.add_argument("--serve-on", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    data = args.data.resolve()
    try:
        found = importlib.metadata.version("ministack")
    except importlib.metadata.PackageNotFoundError:
        found = None
    if found != MINISTACK:
        print(
            f"local cloud: needs ministack {MINISTACK}, and {sys.executable} has {found or 'none'}: "
            f"{sys.executable} -m pip install 'ministack[full]=={MINISTACK}'",
            file=sys.stderr,
        )
        return 2
    if args.serve_on is not None:
        return serve(args.serve_on, args.port, data)
    return watch(args.port, data)


def watch(port: int, data: pathlib.Path) -> int:
    """Starts the server, says `ready`, and ends it and all its children when told to end."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        print(
            f"local cloud: cannot serve on 127.0.0.1:{port}: {error.strerror}. "
            "End what uses the port, or choose another one with --port.",
            file=sys.stderr,
        )
        return 2

    (data / "repositories").mkdir(parents=True, exist_ok=True)
    scratch = data / "tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    log_path = data / "cloud.log"
    # Before the child exists, so that no signal can come between its start and its end.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    with log_path.open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, __file__, "--port", str(port), "--data", str(data), "--serve-on", str(listener.fileno())],
            env=environment(port, scratch),
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        listener.close()
        if answers(server, port):
            print("ready", flush=True)
        server.wait()
        print(f"local cloud: the server ended by itself with code {server.returncode}: see {log_path}", file=sys.stderr)
        return 1
    except TimeoutError:
        print(f"local cloud: no answer on 127.0.0.1:{port} in {START_SECONDS} s: see {log_path}", file=sys.stderr)
        return 1
    finally:
        try:
            os.killpg(server.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        server.wait()


def answers(server: subprocess.Popen, port: int) -> bool:
    """Waits until the server answers; False if it has ended instead."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + START_SECONDS
    while server.poll() is None:
        try:
            direct.open(f"http://127.0.0.1:{port}/_ministack/health", timeout=2).close()
            return True
        except (OSError, urllib.error.URLError):
            if time.monotonic() > end:
                raise TimeoutError from None
            time.sleep(0.1)
    return False


def environment(port: int, scratch: pathlib.Path) -> dict[str, str]:
    """What the server, and with it every function, sees: functions inherit it whole."""
    # Credentials of the caller must not become the emulator's root key, hence names that pass, not names that don't.
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "HOME", "LANG", "LC_ALL", "TZ") or name.startswith("SEKISHO_")
    }
    return (
        kept
        | {
            "AUTH": "true",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "IOT_MTLS_ENABLED": "0",
            "LAMBDA_EXECUTOR": "local",
            "MINISTACK_ACCOUNT_ID": REPOSITORY_ACCOUNT,
            "MINISTACK_HOST": "127.0.0.1",
            "MINISTACK_REGION": REGION,
            "PYTHONUNBUFFERED": "1",
            "SFTP_ENABLED": "0",
            "TMPDIR": str(scratch),
        }
        | {name: os.environ[name] for name in ("LAMBDA_ASYNC_RETRY_BASE_SECONDS", "LOG_LEVEL") if name in os.environ}
    )


def serve(listener: int, port: int, data: pathlib.Path) -> int:
    parent = os.getppid()
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        return 1

    import buses
    import chatbot
    import codecommit
    import codepipeline
    import iam
    import s3
    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config
    from ministack import app as ministack

    import functions

    functions.install()
    iam.install()
    s3.install()
    buses.install()
    chatbot.install()
    codecommit.install(data / "repositories", REPOSITORY_ACCOUNT, REGION, port)
    codepipeline.install()
    own_paths = codecommit.PATHS | codepipeline.PATHS

    async def app(scope, receive, send):
        """The stand-in's own paths, which no AWS client asks for; all else is the emulator's."""
        _, top, kind, rest = [*scope.get("path", "").split("/", 3), "", "", ""][:4]
        if scope["type"] != "http" or top != "_local-cloud" or kind not in own_paths:
            await ministack.app(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        try:
            status, answer = await asyncio.to_thread(own_paths[kind], rest, body)
        except (KeyError, ValueError) as error:
            status, answer = 400, f"{type(error).__name__}: {error}\n"
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": answer.encode()})

    config = Config()
    config.bind = [f"fd://{listener}"]
    config.keep_alive_timeout = 75
    config.accesslog = None
    # A trigger that never fires keeps hypercorn from handling signals: there is no state to save, and it would wait.
    asyncio.run(hypercorn_serve(app, config, shutdown_trigger=asyncio.Event().wait))
    return 0


if __name__ == "__main__":
    sys.exit(main())
