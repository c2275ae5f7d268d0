"""The memory's bound, measured from outside: a process of its own is filled many times over."""

from __future__ import annotations

import asyncio
import sys

import pytest

FILL = """
import gc, random, resource
from proxy.caching.entries import Entry
from proxy.caching.lru import Lru

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()

def fill(table, rounds):
    worst = 0
    for number in range(rounds):
        size = sizes(number)
        headers = ((b"Content-Type", b"application/json"), (b"Date", b"%029d" % number), (b"Server", b"s%d" % number))
        until = float(number)
        entry = Entry("model", b"OK", headers, random.randbytes(size), until, until + 1, until + 2, until + 3)
        table.put(number.to_bytes(32, "big"), entry)
        worst = max(worst, table.nbytes)
    return worst

random.seed(7)
sizes = {sizes}
MAX = {max_bytes}
fill(Lru(1 << 20), 5000)
gc.collect()
before = resident()
table = Lru(MAX)
worst = fill(table, {rounds})
print(worst <= MAX, table.evicted > len(table), table.nbytes > 0.9 * MAX, resident() - before <= MAX, resident() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sizes", "rounds"),
    [
        ("lambda n: 60", 150_000),
        ("lambda n: 4096", 40_000),
        ("lambda n: random.choice((50, 900, 20_000))", 30_000),
    ],
    ids=["small", "pages", "mixed"],
)
async def test_neither_the_account_nor_the_process_exceeds_the_bound(sizes: str, rounds: int) -> None:
    script = FILL.format(sizes=sizes, rounds=rounds, max_bytes=32 << 20)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    words = out.decode().split()
    assert words[:4] == ["True"] * 4, out
