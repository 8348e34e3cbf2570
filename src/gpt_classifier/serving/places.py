"""Where workers listen: at one socket, or each at its own of the same port."""

import socket
import sys

from gpt_classifier.errors import UserError
from gpt_classifier.listening import family_of, listen, prepared

SPREADS = sys.platform == "linux"
"""Whether the system spreads connections evenly over sockets of the same port (SO_REUSEPORT of socket(7))."""


class Shared:
    """One socket, which is listening: whoever comes while no worker is ready waits for one.

    Of several workers the first that wakes up takes all connections that have come.

    Args:
        host: address.
        port: 0 for one that is free.
    """

    def __init__(self, host: str, port: int) -> None:
        self._listener = listen(host, port)
        self.port: int = self._listener.getsockname()[1]

    def open(self) -> socket.socket:
        """What the next worker listens at."""
        return self._listener

    def handed_over(self) -> None:
        """Workers have been started that have what `open` gave."""

    def close(self) -> None:
        """Give up the port."""
        self._listener.close()


class Spread:
    """A socket for each worker, which ends with it: the system spreads connections over workers that are ready.

    Args:
        host: address.
        port: 0 for one that is free.
    """

    def __init__(self, host: str, port: int) -> None:
        with listen(host, port) as listener:  # that the port is free: sockets that share one would not tell
            self.port: int = listener.getsockname()[1]
        self._host = host
        self._holder = self._bound()  # nobody else gets the port, even while there is no worker
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        self._given: list[socket.socket] = []

    def open(self) -> socket.socket:
        """What the next worker listens at; it is bound, but gets no connections before the worker is ready."""
        self._given.append(self._bound())
        return self._given[-1]

    def handed_over(self) -> None:
        """Workers have been started that have what `open` gave, which would take connections as long as it is here."""
        for given in self._given:
            given.close()
        self._given.clear()

    def close(self) -> None:
        """Give up the port."""
        self._holder.close()

    def _bound(self) -> socket.socket:
        found = prepared(socket.socket(family_of(self._host)))
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            found.setsockopt(socket.SOL_SOCKET, option, 1)
        found.bind((self._host, self.port))
        return found


def place_of(host: str, port: int, workers: int) -> Shared | Spread:
    """Where so many workers listen; port 0 takes a free one.

    Raises:
        UserError: the address can't be had.
    """
    try:
        return Spread(host, port) if workers > 1 and SPREADS else Shared(host, port)
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--host, --port: expected an address of this machine and a port that is free, but {host} port {port} "
            f"can't be had ({getattr(error, 'strerror', None) or error}). Set another --port, or 0 for any."
        ) from error
