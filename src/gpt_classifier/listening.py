"""Ports of this machine."""

import ipaddress
import socket


def listen(host: str, port: int) -> socket.socket:
    """A port to listen on, which child processes may inherit.

    Args:
        host: address or name.
        port: 0 for a free one.

    Raises:
        OSError, OverflowError: it can't be had.
    """
    return prepared(socket.create_server((host, port), family=family_of(host), backlog=2048))


def family_of(host: str) -> socket.AddressFamily:
    """Of a socket for an address or name."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def prepared(found: socket.socket) -> socket.socket:
    """A socket that child processes may inherit, and whose answers are sent at once."""
    found.set_inheritable(True)
    # asyncio sets it for sockets of its own making alone; without it a body waits 40 ms for its headers' receipt
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def is_loopback(host: str) -> bool:
    """Whether what listens there is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
