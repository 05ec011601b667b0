"""For the whole suite: one thread a process, and no network.

Two test processes with two threads each fight over two cores. Nothing of the library needs the internet, and a test
that would reach for it fails.
"""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start, too

import pytest
import torch

torch.set_num_threads(1)

# A shell without a terminal starts what runs in the background with Ctrl-C ignored, and that is inherited.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _here(address: Any) -> bool:
    """Whether a socket's address is this machine's own: a path, or a loopback number."""
    if not isinstance(address, tuple):
        return True
    host = str(address[0])
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in ("", "localhost")


@pytest.fixture(autouse=True, scope="session")
def _no_network():
    """Connecting anywhere but to this machine fails, as it does on one without a network."""
    plain = {name: getattr(socket.socket, name) for name in ("connect", "connect_ex", "sendto")}

    def guarded(name: str) -> Any:
        def call(self: socket.socket, *args: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _here(args[-1]):
                raise OSError(f"The tests have no network: {name}({args[-1]!r}).")
            return plain[name](self, *args)

        return call

    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        if host is not None and not _here((host.decode() if isinstance(host, bytes) else host,)):
            raise socket.gaierror(socket.EAI_NONAME, f"The tests have no network: {host!r}.")
        return resolve(host, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        for name in plain:
            patch.setattr(socket.socket, name, guarded(name), raising=False)
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield
