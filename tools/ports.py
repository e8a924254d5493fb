"""Finds free loopback ports."""

import socket

from tools.failure import Failure


def free_port(wanted: int | None = None) -> int:
    """Returns a loopback port on which nobody listens: the wanted port if given, else any."""
    with socket.socket() as probe:
        # The servers set this option, too, so they can use a port in TIME_WAIT.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or 0))
        except OSError as error:
            raise Failure(
                f"Port {wanted} can't be used ({error.strerror}): leave PORT out for a free port, or name another. "
                f"To see which process uses it: ss -ltnp 'sport = :{wanted}'"
            ) from None
        port: int = probe.getsockname()[1]
        return port
