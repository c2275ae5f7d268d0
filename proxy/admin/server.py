"""The admin listener: probes, metrics, status, drain. An ordinary aiohttp application, off the data path.

Owned by the lifecycle as its first component, so that probes are answered while everything else still starts
and until everything else has stopped. It waits for nothing of its own; ``/wait-for-drain`` waits for the
lifecycle, which releases it before stopping this server. GET reads, POST changes.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec
from aiohttp import hdrs, web

from proxy.admin.guard import Guard, Visit
from proxy.admin.readiness import Check, readiness
from proxy.ingress.binding import UnixSocket

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohttp.typedefs import Handler

    from proxy.telemetry.collector import MetricsPage
    from proxy.telemetry.status import StatusReport

__all__ = ("AdminServer", "Life", "Place", "Route", "json_answer")

_logger = logging.getLogger(__name__)
_STOP_S = 1.0
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "pillion"}


class Life(Protocol):
    """What the admin port needs of the lifecycle."""

    @property
    def is_started(self) -> bool:
        """Whether everything has been started."""

    @property
    def is_draining(self) -> bool:
        """Whether the end has begun."""

    def request_drain(self) -> None:
        """Begin to leave."""

    async def wait_drained(self) -> None:
        """Return once nothing admitted is left."""


class Place(Protocol):
    """Where to listen: a Unix socket if `path` is set, else TCP; an empty `host` is every interface."""

    @property
    def host(self) -> str:
        """Name or address."""

    @property
    def port(self) -> int:
        """TCP port."""

    @property
    def path(self) -> str:
        """Unix socket path."""


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint; `help` is its line in the list of endpoints."""

    method: Literal["GET", "POST"]
    path: str
    help: str
    handler: Handler


class AdminServer:
    """Listens at `place`; port 0 lets the kernel choose.

    `token` is needed for changes when it is not empty. `checks` decide readiness, beside the lifecycle's
    state. `more` are endpoints of other rooms. `address` is known once `start` has returned.
    """

    def __init__(
        self,
        life: Life,
        page: MetricsPage,
        status: StatusReport,
        checks: Sequence[Check],
        *,
        place: Place,
        token: str = "",
        more: Sequence[Route] = (),
    ) -> None:
        self.address = ""
        self._life = life
        self._page = page
        self._status = status
        self._checks = (
            Check("started", self._ask_started),
            Check("not-draining", self._ask_staying),
            *checks,
        )
        self._place = place
        self._guard = Guard(token)
        self._routes = (*self._own_routes(), *more)
        self._runner: web.AppRunner | None = None
        self._unix: UnixSocket | None = None

    # ------------------------------------------------------------- life
    async def start(self) -> None:
        """Bind and answer; OSError when the address cannot be had."""
        app = web.Application(middlewares=[self._guarded])
        for route in self._routes:
            add = app.router.add_get if route.method == hdrs.METH_GET else app.router.add_post
            add(route.path, route.handler)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_S)
        await self._runner.setup()
        await self._bind(self._runner)

    async def drain(self, deadline: float) -> None:
        """Nothing to finish: probes and metrics are wanted until the very end."""

    async def stop(self) -> None:
        """Close the listener; open requests get a second to end."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._unix is not None:
            self._unix.remove()

    async def _bind(self, runner: web.AppRunner) -> None:
        place = self._place
        if place.path:
            self._unix = UnixSocket(place.path)
            await web.SockSite(runner, self._unix.socket).start()
            self.address = f"unix:{place.path}"
            return
        await web.TCPSite(runner, place.host or None, place.port).start()
        bound_host, bound_port = runner.addresses[0][:2]
        shown_host = f"[{bound_host}]" if ":" in bound_host else bound_host
        self.address = f"http://{shown_host}:{bound_port}"

    # ------------------------------------------------------------- every request
    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what the guard refuses; answer every failure in JSON."""
        refusal = self._guard.refusal(_visit(request))
        if refusal is not None:
            return _error(403, refusal)
        try:
            response = await handler(request)
        except web.HTTPNotFound:
            return _error(404, "no such endpoint", endpoints=self._index())
        except web.HTTPMethodNotAllowed as error:
            allowed = sorted(error.allowed_methods)
            response = _error(405, f"use {' or '.join(allowed)}")
            response.headers[hdrs.ALLOW] = ", ".join(allowed)
            return response
        except web.HTTPException as error:
            return _error(error.status, error.reason)
        except Exception:
            _logger.exception("%s %s failed", request.method, request.path)
            return _error(500, "internal error, see the log")
        response.headers.extend(_HEADERS)
        return response

    # ------------------------------------------------------------- endpoints
    def _own_routes(self) -> tuple[Route, ...]:
        return (
            Route("GET", "/", "this list", self._list),
            Route("GET", "/livez", "the process answers", self._livez),
            Route("GET", "/startupz", "everything has been started", self._startupz),
            Route("GET", "/readyz", "requests are welcome; ?verbose shows every check", self._readyz),
            Route("GET", "/metrics", "metrics in Prometheus or OpenMetrics text", self._metrics),
            Route("GET", "/status.json", "the state of everything", self._status_json),
            Route("POST", "/drain", "leave: answer what was admitted, then stop", self._drain),
            Route("GET", "/wait-for-drain", "answers once a drain has ended", self._wait_for_drain),
        )

    def _index(self) -> list[dict[str, str]]:
        return [{"method": route.method, "path": route.path, "help": route.help} for route in self._routes]

    async def _list(self, request: web.Request) -> web.Response:
        return json_answer(200, {"endpoints": self._index()})

    async def _livez(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _startupz(self, request: web.Request) -> web.Response:
        is_started, why = self._ask_started()
        return web.Response(text="ok\n" if is_started else f"{why}\n", status=200 if is_started else 503)

    async def _readyz(self, request: web.Request) -> web.Response:
        verdict = readiness(self._checks)
        text = verdict.verbose if "verbose" in request.query else verdict.brief
        return web.Response(text=text, status=200 if verdict.is_ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        content_type, page = await self._page.render(",".join(request.headers.getall(hdrs.ACCEPT, ())))
        response = web.Response(body=page, headers={hdrs.CONTENT_TYPE: content_type})
        response.enable_compression()
        return response

    async def _status_json(self, request: web.Request) -> web.Response:
        return web.Response(body=self._status.as_json(), content_type="application/json")

    async def _drain(self, request: web.Request) -> web.Response:
        self._life.request_drain()
        return json_answer(202, {"state": "draining"})

    async def _wait_for_drain(self, request: web.Request) -> web.Response:
        # Waiting for a drain that nobody asked for would hold a shutdown hook until it is killed.
        if not self._life.is_draining:
            return _error(409, "not draining: POST /drain first")
        await self._life.wait_drained()
        return json_answer(200, {"state": "drained"})

    # ------------------------------------------------------------- readiness
    def _ask_started(self) -> tuple[bool, str]:
        return self._life.is_started, "still starting"

    def _ask_staying(self) -> tuple[bool, str]:
        return not self._life.is_draining, "draining"


def _visit(request: web.Request) -> Visit:
    headers = request.headers
    return Visit(
        method=request.method,
        peer=request.remote or "",
        host=headers.get(hdrs.HOST, ""),
        origin=headers.get(hdrs.ORIGIN, ""),
        fetch_site=headers.get("Sec-Fetch-Site", ""),
        authorization=headers.get(hdrs.AUTHORIZATION, ""),
    )


def json_answer(status: int, document: object) -> web.Response:
    """`document`, which msgspec can write, as an answer of one line."""
    body = msgspec.json.encode(document) + b"\n"
    return web.Response(status=status, body=body, content_type="application/json")


def _error(status: int, message: str, **more: object) -> web.Response:
    response = json_answer(status, {"error": message, **more})
    response.headers.extend(_HEADERS)
    return response
