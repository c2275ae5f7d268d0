"""One request to the admin port of a running proxy, for the command line; nothing but the standard library,
because container health checks start it every few seconds."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

__all__ = ("ask",)

_TIMEOUT_S = 3.0


def ask(base: str, path: str, method: str = "GET", *, token: str = "") -> tuple[int, str]:
    """(status, body) of `path` at the admin port `base`; status 0 with the reason when nobody answers."""
    url = urlsplit(base if "//" in base else f"//{base}")
    connection = http.client.HTTPConnection(url.hostname or "127.0.0.1", url.port or 9901, timeout=_TIMEOUT_S)
    try:
        connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, f"no answer from {base}: {error}"
    finally:
        connection.close()
