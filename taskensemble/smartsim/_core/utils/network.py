"""Ports and addresses of this host."""

from __future__ import annotations

import socket

from taskensemble.database.server import interface_address


def find_free_port(start: int = 0) -> int:
    """The first port from `start` on that nothing listens on; 0: any."""
    port = start
    while True:
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
                return int(probe.getsockname()[1])
            except OSError:
                port += 1


def get_ip_from_host(host: str) -> str:
    """The IP address of a host."""
    return socket.gethostbyname(host)


def get_ip_from_interface(interface: str) -> str:
    """The IP address of a network interface.

    Raises:
        InputError: this host has no such interface, or it has no address.
    """
    return interface_address(interface)
