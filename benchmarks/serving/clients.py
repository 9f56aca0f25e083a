"""Clients that ask a server over loopback, each the next request when the last one is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from time import perf_counter, process_time
from typing import NamedTuple

__all__ = ["Found", "asked"]


class Found(NamedTuple):
    """What clients have seen.

    Attributes
    ----------
    seconds : float
        From the first request to the last answer.
    latencies : list of float
        Of each answer, in seconds.
    wrong : int
        Answers with another status than 200, or with another best class than expected.
    computed : float
        Seconds that the clients themselves have computed, on all cores.
    """

    seconds: float
    latencies: list[float]
    wrong: int
    computed: float


def asked(port: int, photos: Sequence[bytes], best: Sequence[int], clients: int, seconds: float, most: int) -> Found:
    """Ask for some seconds, or `most` times; all that was asked is waited for.

    Parameters
    ----------
    port : int
    photos : sequence of bytes
        Files, which take turns.
    best : sequence of int
        The class that each shows.
    clients : int
        Connections.
    seconds : float
        No request begins later.
    most : int
        Requests of all clients.
    """
    return asyncio.run(_asked(port, photos, best, clients, seconds, most))


async def _asked(
    port: int, photos: Sequence[bytes], best: Sequence[int], clients: int, seconds: float, most: int
) -> Found:
    heads = [
        f"POST /v1/classify?top=1 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(photo)}\r\n\r\n".encode()
        for photo in photos
    ]
    numbers, latencies, wrong = iter(range(most)), [], 0
    start, computed = perf_counter(), process_time()

    async def client() -> None:
        nonlocal wrong
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            begin = perf_counter()
            writer.write(heads[number % len(photos)] + photos[number % len(photos)])
            status, body = await _answer(reader)
            latencies.append(perf_counter() - begin)
            wrong += status != 200 or _class(body) != best[number % len(photos)]
            if perf_counter() - start > seconds:
                break
        writer.close()

    await asyncio.gather(*[client() for _ in range(clients)])
    return Found(perf_counter() - start, latencies, wrong, process_time() - computed)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    )
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


def _class(body: bytes) -> int:
    (result,) = json.loads(body)["results"]
    found: int = result["predictions"][0]["index"]
    return found
