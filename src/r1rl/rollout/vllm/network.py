"""Addresses and ports of this machine."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit


def address_towards(urls: Sequence[str]) -> str:
    """The address of this machine at which all of these servers reach it.

    The route to a server decides it, not the name of this machine, which on Debian is an alias of loopback (127.0.1.1)
    and which names one of several networks at best. Nothing is sent.

    Raises:
        OSError: a server's name is unknown here, or no route leads to it.
    """
    ours = [_address_towards(url) for url in urls]
    reachable = [address for address in ours if not ip_address(address).is_loopback]
    return (reachable or ours)[0]


def _address_towards(url: str) -> str:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    # vLLM's rendezvous listens on IPv4 only.
    [*_, target] = socket.getaddrinfo(parts.hostname, port, socket.AF_INET, socket.SOCK_DGRAM)[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(target)  # of a datagram socket: only looks up the route
        return str(probe.getsockname()[0])


def is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
