"""A second host on this machine, and a network between that can fail: packets vanish, nobody says why.

    with Elsewhere() as there:                       # skips where the machine does not let us
        with there.inside():
            sock = socket.create_server((there.address, 0))   # belongs to the other host for ever
        there.cut()                                  # from now on neither hears of the other
        there.heal()

The other host is a network namespace at the far end of a virtual cable. It is cut by telling either end a
hardware address that nobody has: frames leave and are taken by nobody, as behind a switch that lost power.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ("Elsewhere",)

_NEWNET = 0x4000_0000
_GREETINGS = 100
_NOBODY = "02:00:00:00:00:99"


class Elsewhere:
    """See the module's text; `here` is our own address on the cable, `address` the other's."""

    def __init__(self) -> None:
        number = os.getpid() % 16_000
        self.here = f"10.231.{number >> 6}.{(number & 63) * 4 + 1}"
        self.address = f"10.231.{number >> 6}.{(number & 63) * 4 + 2}"
        self._name = f"pln{os.getpid()}"
        self._near, self._far = f"{self._name}n", f"{self._name}f"

    def __enter__(self) -> Self:
        if os.geteuid() or shutil.which("ip") is None:
            pytest.skip("network namespaces need root and iproute2")
        try:
            _ip(f"netns add {self._name}")
            _ip(f"link add {self._near} type veth peer name {self._far} netns {self._name}")
            _ip(f"addr add {self.here}/30 dev {self._near}")
            _ip(f"link set {self._near} up")
            _ip(f"-n {self._name} addr add {self.address}/30 dev {self._far}")
            _ip(f"-n {self._name} link set {self._far} up")
        except subprocess.CalledProcessError as error:
            self._remove()
            pytest.skip(f"no virtual network here: {error.stderr.strip()}")
        self._greet()
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that are made in this block are the other host's. Nothing may be awaited in it."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/self/ns/net", "rb") as home, open(f"/run/netns/{self._name}", "rb") as there:
            if libc.setns(there.fileno(), _NEWNET):
                pytest.skip(f"no way into a network namespace: {os.strerror(ctypes.get_errno())}")
            try:
                yield
            finally:
                assert not libc.setns(home.fileno(), _NEWNET)

    def cut(self) -> None:
        """Nothing arrives any more, in either direction."""
        _ip(f"neigh replace {self.address} lladdr {_NOBODY} dev {self._near} nud permanent")
        _ip(f"-n {self._name} neigh replace {self.here} lladdr {_NOBODY} dev {self._far} nud permanent")

    def heal(self) -> None:
        """Everything arrives again."""
        _ip(f"neigh del {self.address} dev {self._near}")
        _ip(f"-n {self._name} neigh del {self.here} dev {self._far}")

    def _greet(self) -> None:
        """Return once the ends hear of each other: the first packets on a new cable may be dropped, and TCP would
        wait a second before it sent them again."""
        with self.inside():
            listener = socket.create_server((self.address, 0))
        with listener:
            for _ in range(_GREETINGS):
                with contextlib.suppress(OSError), socket.create_connection(listener.getsockname(), 0.05):
                    return
        self._remove()
        pytest.skip("the other end of the virtual cable never answered")

    def _remove(self) -> None:
        for command in (f"link del {self._near}", f"netns del {self._name}"):
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip(command)


def _ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True, timeout=60)
