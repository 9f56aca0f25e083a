"""Network namespaces whose links delay and lose packets: a switch of this process hands them on.

Each namespace has a TUN device. The switch reads a packet from one and writes it to that of its address, some
milliseconds later, or never. That needs no queueing discipline of the kernel, which few machines offer to containers.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time

_TUNSETIFF, _TUN, _NO_HEADER = 0x400454CA, 0x0001, 0x1000
_SETNS_NETWORK = 0x40000000
_MTU = 1400


def address(number: int) -> str:
    """The address of a namespace."""
    return f"10.0.0.{number + 1}"


class Links:
    """Namespaces that a switch connects.

    Parameters
    ----------
    count : int
    delay : float
        Seconds of a packet, one way.
    loss : float
        Share of packets that are lost.
    """

    def __init__(self, count: int, delay: float = 0.0, loss: float = 0.0) -> None:
        self.names = [f"fastcnn{os.getpid()}-{i}" for i in range(count)]
        self.delay, self.loss, self.lost, self.carried = delay, loss, 0, 0
        self._random, self._ended = random.Random(0), threading.Event()
        self._devices = [self._made(i, name) for i, name in enumerate(self.names)]
        self._thread = threading.Thread(target=self._switch)
        self._thread.start()

    def _made(self, number: int, name: str) -> int:
        """Make a namespace; return its device."""
        run("ip", "netns", "add", name)
        found: list[int] = []

        def within() -> None:
            """A thread may enter a namespace, and what it opens stays there."""
            with open(f"/run/netns/{name}", "rb") as namespace:
                enter(namespace.fileno())
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH", b"fc0", _TUN | _NO_HEADER))
            found.append(device)

        thread = threading.Thread(target=within)
        thread.start()
        thread.join()
        run("ip", "-n", name, "addr", "add", f"{address(number)}/24", "dev", "fc0")
        run("ip", "-n", name, "link", "set", "dev", "fc0", "up", "mtu", str(_MTU))
        run("ip", "-n", name, "link", "set", "dev", "lo", "up")
        run("ip", "-n", name, "route", "add", "default", "dev", "fc0")  # programs find their address by a route
        return found[0]

    def _switch(self) -> None:
        waiting: list[tuple[float, int, int, bytes]] = []
        count = 0
        while not self._ended.is_set():
            now = time.monotonic()
            while waiting and waiting[0][0] <= now:
                _, _, to, packet = heapq.heappop(waiting)
                try:
                    os.write(self._devices[to], packet)
                except OSError:
                    self.lost += 1
            limit = min(0.1, waiting[0][0] - now) if waiting else 0.1
            for device in select.select(self._devices, [], [], max(limit, 0))[0]:
                for _ in range(64):
                    try:
                        packet = os.read(device, 2 * _MTU)
                    except OSError:
                        break
                    to = packet[19] - 1 if packet[0] >> 4 == 4 else -1
                    if not 0 <= to < len(self._devices):
                        continue
                    if self._random.random() < self.loss:
                        self.lost += 1
                        continue
                    count += 1
                    self.carried += 1
                    heapq.heappush(waiting, (time.monotonic() + self.delay, count, to, packet))

    def command(self, number: int, *words: str) -> list[str]:
        """A command within a namespace."""
        return ["ip", "netns", "exec", self.names[number], *words]

    def processes(self, number: int) -> list[int]:
        """The processes within a namespace."""
        return list(map(int, run("ip", "netns", "pids", self.names[number]).split()))

    def close(self) -> None:
        """End the switch, and remove the namespaces."""
        self._ended.set()
        self._thread.join()
        for device in self._devices:
            os.close(device)
        for name in self.names:
            run("ip", "netns", "del", name)


def enter(descriptor: int) -> None:
    """Let this thread be in a namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _SETNS_NETWORK):
        raise OSError(ctypes.get_errno(), "setns")


def run(*words: str) -> str:
    """What a command prints; it must succeed."""
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout
