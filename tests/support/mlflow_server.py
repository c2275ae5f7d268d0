"""A real third-party model server: MLflow's scoring server with a scikit-learn model of the digits data.

async with mlflow_server(folder) as server:
    …                                             # server.url takes POST /invocations
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.demo.processes import child, free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ("MlflowServer", "mlflow_server")

_SAVES = Path(__file__).parent / "servers" / "mlflow_model.py"
_START_S = 180.0


@dataclass(frozen=True, slots=True)
class MlflowServer:
    """A running server."""

    url: str


@contextlib.asynccontextmanager
async def mlflow_server(folder: Path) -> AsyncIterator[MlflowServer]:
    """Run what ``mlflow models serve`` runs, on a model that is trained first; ends it with the block."""
    model = str(folder / "model")
    await asyncio.to_thread(_save, model)
    port = free_port()
    sign = f"Uvicorn running on http://127.0.0.1:{port} "
    application = ("uvicorn", "mlflow.pyfunc.scoring_server.app:app", "--port", str(port))
    async with child(
        (sys.executable, "-m", *application),
        lambda line: True if sign in line else None,
        environment={"__pyfunc_model_path__": model, "MLFLOW_DISABLE_TELEMETRY": "true"},
        start_s=_START_S,
    ):
        yield MlflowServer(f"http://127.0.0.1:{port}")


def _save(model: str) -> None:
    subprocess.run([sys.executable, str(_SAVES), model], check=True)
