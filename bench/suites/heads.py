"""What it costs that no two heads are the same: another id, span and cookie with each request.

wrk runs the same script in both cases; only what it counts stands still in the first. Pillion remembers the
judgement of a head, so the first case is its best one. Compared are requests per CPU second of the proxy:
the rate would also tell how fast the load generator's script is.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from bench.statistics import interleaved, ratios, spread
from bench.suites.common import Options, maximum
from bench.tables import count, factor, markdown

if TYPE_CHECKING:
    from bench.report import Report
    from bench.subjects import Running

__all__ = ("differing_heads",)

_CASES = {"the same head again": 0, "another id, span and cookie each time": 1}
_SCRIPT = """
local step, at, made = %d, 0, {}
local fixed = "POST %s HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nUser-Agent: python-httpx/0.27.0\\r\\n" ..
  "Accept: */*\\r\\nAccept-Encoding: gzip, deflate\\r\\nConnection: keep-alive\\r\\n" ..
  "Content-Type: application/json\\r\\n"
local body = '%s'
for index = 1, 4096 do
  local number = 1000000 + index * step
  made[index] = fixed .. "X-Request-Id: " .. number .. "\\r\\n" ..
    "traceparent: 00-4bf92f3577b34da6a3ce929d0" .. number .. "-00f067aa0ba902b7-01\\r\\n" ..
    "Cookie: session=" .. number .. "\\r\\nContent-Length: " .. #body .. "\\r\\n\\r\\n" .. body
end
request = function()
  at = at %% 4096 + 1
  return made[at]
end
"""


async def differing_heads(
    report: Report, subject: Running, path: str, body: bytes, options: Options, *, connections: int
) -> None:
    """Add the comparison to `report`."""
    found: dict[str, list[float]] = defaultdict(list)
    for name in interleaved(list(_CASES), options.rounds):
        script = _SCRIPT % (_CASES[name], path, body.decode())
        most = await maximum(subject, path, body, connections=connections, options=options, script=script)
        found[name].append(most.per_cpu_s)
    same, other = found.values()
    rows = [
        [name, count(spread(values)), factor(spread(ratios(values, same)))] for name, values in found.items()
    ]
    report.section(
        "Heads that differ",
        markdown(["POST, ten fields", "requests per CPU second", "times the first"], rows),
    )
    report.objective("heads that differ cost at most 10 %", ratios(other, same), least=0.9)
    report.data["differing_heads"] = dict(found)
