"""A real third-party model server: KServe's Python server, in an environment of its own.

    async with kserve(folder) as server:
        …                                             # server.url speaks V1 and Open Inference

Its dependencies and MLServer's exclude each other, so it is installed apart, once, into ``.venv-kserve``
(three quarters of a minute); ``python -m tests.support.kserve`` does that beforehand.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.demo.processes import child, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ("KServe", "kserve")

_HERE = Path(__file__).parent / "servers"
_REQUIREMENTS = _HERE / "kserve.txt"
_ENVIRONMENT = Path(__file__).parents[2] / ".venv-kserve"
_START_S = 180.0


@dataclass(frozen=True, slots=True)
class KServe:
    """A running server."""

    url: str


@contextlib.asynccontextmanager
async def kserve(folder: Path) -> AsyncIterator[KServe]:
    """Start the server of `servers/kserve_app.py`, its weights in `folder`; ends it with the block."""
    python = await asyncio.to_thread(_installed)
    weights = _train(folder / "digits.npz")
    port = free_port()
    sign = f"Uvicorn running on http://0.0.0.0:{port} "
    command = (str(python), str(_HERE / "kserve_app.py"), str(port), str(weights))
    async with child(command, lambda line: True if sign in line else None, start_s=_START_S):
        yield KServe(f"http://127.0.0.1:{port}")


def _installed() -> Path:
    """The interpreter of the environment, which is made when there is none for these requirements."""
    stamp, wanted = _ENVIRONMENT / "requirements.txt", _REQUIREMENTS.read_text("utf-8")
    python = _ENVIRONMENT / "bin" / "python"
    with _ENVIRONMENT.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another run may be installing it
        if not stamp.exists() or stamp.read_text("utf-8") != wanted:
            venv.create(_ENVIRONMENT, clear=True, with_pip=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(_REQUIREMENTS)]
            subprocess.run(pip, check=True)
            stamp.write_text(wanted, "utf-8")
    return python


def _train(path: Path) -> Path:
    """The weights of a linear classifier of the digits data."""
    import numpy as np  # noqa: PLC0415  the extra `real`, which only some tests need
    from sklearn.datasets import load_digits  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    digits = load_digits()
    with threadpool_limits(1):
        fitted = LogisticRegression(C=0.01, max_iter=5000).fit(digits.data, digits.target)
    np.savez(path, slopes=fitted.coef_.T, offsets=fitted.intercept_)
    return path


if __name__ == "__main__":
    _installed()
