"""The local cloud: one loopback endpoint that serves AWS to several accounts, with IAM enforced.

    .venv/bin/python local_cloud --port 4566 --data .local

The cloud is the emulator ministack. The modules of this package patch the emulator from outside, and stand in for the
AWS services that ministack lacks. docs/local-stack.md describes the patches, the stand-ins and their limits.

The command runs as two processes: the first one watches, and its child, the server, serves. The Lambda functions that
the emulator runs are child processes of the server, and would survive if only the server were killed. Therefore the
server and its functions share one process group. When the watching process or the server ends, for whatever reason, the
whole group ends.
"""

import argparse
import importlib.metadata
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
# Python puts this folder on the path. The imports below need the project's root there instead.
sys.path[:] = [str(PACKAGE.parent), *(entry for entry in sys.path if Path(entry or ".").resolve() != PACKAGE)]

from tools.layout import ACCOUNTS, REGION  # noqa: E402
from tools.surroundings import UMASK, server_environment  # noqa: E402

# The package patches ministack's internals, so it works with this version only.
MINISTACK = "1.5.33"
START_SECONDS = 60


def main() -> int:
    """Parses the command line, and runs the watching process or the server."""
    parser = argparse.ArgumentParser(
        prog="local_cloud", description="The local cloud: AWS for several accounts on one loopback endpoint"
    )
    parser.add_argument("--port", type=int, required=True, help="loopback port to serve on")
    parser.add_argument("--data", type=Path, required=True, help="folder for repositories, log and scratch")
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
        from local_cloud.server import serve  # noqa: PLC0415 (needs ministack, whose version was just checked)

        return serve(args.serve_on, args.port, data)
    return watch(args.port, data)


def watch(port: int, data: Path) -> int:
    """Starts the server, prints `ready`, and ends the server and all its children when this process ends."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        print(
            f"local cloud: cannot serve on 127.0.0.1:{port}: {error.strerror}. "
            "End the process that uses the port, or choose another port with --port.",
            file=sys.stderr,
        )
        return 2

    (data / "repositories").mkdir(parents=True, exist_ok=True)
    scratch = data / "tmp"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    log_path = data / "cloud.log"
    # The handlers are set before the child exists, so that the cleanup below follows even if a signal arrives at once.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    with log_path.open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, PACKAGE, "--port", str(port), "--data", str(data), "--serve-on", str(listener.fileno())],
            env=environment(port, scratch),
            pass_fds=[listener.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            umask=UMASK,
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
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(server: subprocess.Popen[bytes], port: int) -> bool:
    """Waits until the server answers, and returns True. Returns False if the server ends without an answer."""
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


def environment(port: int, scratch: Path) -> dict[str, str]:
    """The environment of the server, which every function inherits."""
    # SEKISHO_CONFIG, which names the configuration file, is the only setting that the server gets from the caller.
    given = {name: os.environ[name] for name in ("SEKISHO_CONFIG",) if name in os.environ}
    return server_environment(
        AUTH="true",
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{port}",
        BIND_HOST="127.0.0.1",
        GATEWAY_PORT=str(port),
        HOME=str(scratch),
        IOT_MTLS_ENABLED="0",
        LAMBDA_EXECUTOR="local",
        MINISTACK_ACCOUNT_ID=ACCOUNTS["repository"],
        MINISTACK_HOST="127.0.0.1",
        MINISTACK_IMDS_V2_REQUIRED="1",
        MINISTACK_REGION=REGION,
        PYTHONUNBUFFERED="1",
        SFTP_ENABLED="0",
        TMPDIR=str(scratch),
        **given,
    )


if __name__ == "__main__":
    sys.exit(main())
