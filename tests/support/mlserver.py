"""A real third-party model server: MLServer with two scikit-learn models of the digits data.

    async with mlserver(train(folder)) as server:
        …                                             # server.url speaks Open Inference

``logistic`` answers in about a millisecond; ``forest`` has 200 trees, for which one row costs about 12 ms and a
hundred rows about 18: a model that nobody made for batching and that gains most from it. Nothing of MLServer is
changed; `batch` is its own adaptive batching, which is off unless asked for.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.demo.processes import child, free_port, free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

__all__ = ("FOREST", "LOGISTIC", "MLServer", "infer_body", "mlserver", "train")

FOREST = "forest"
LOGISTIC = "logistic"
START_S = 180.0
RUNTIME = "mlserver_sklearn.SKLearnModel"
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class MLServer:
    """A running server."""

    url: str
    grpc: str
    pid: int


def train(folder: Path) -> Path:
    """Save both models below `folder`, which a server can be started on; the first time they are trained."""
    import joblib  # noqa: PLC0415  the extra `real`, which only some tests need

    for name, model in _trained().items():
        (folder / name).mkdir(parents=True)
        joblib.dump(model, folder / name / "model.joblib")
    return folder


@functools.cache
def _trained() -> dict[str, object]:
    """The models by name; about two seconds."""
    from sklearn.datasets import load_digits  # noqa: PLC0415  as above
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    digits = load_digits()
    models = {
        LOGISTIC: LogisticRegression(C=0.01, max_iter=5000),
        FOREST: RandomForestClassifier(n_estimators=200, random_state=7),
    }
    with threadpool_limits(1):  # BLAS threads that spin for so small a problem take ten times as long
        return {name: model.fit(digits.data, digits.target) for name, model in models.items()}


def infer_body(rows: Sequence[Sequence[float]], identity: str) -> bytes:
    """An Open Inference request for `rows`; without an id of ours MLServer answers with a random one."""
    flat = [value for row in rows for value in row]
    tensor = {"name": "image", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": flat}
    return json.dumps({"id": identity, "inputs": [tensor]}).encode()


@contextlib.asynccontextmanager
async def mlserver(
    models: Path,
    *,
    batch: dict[str, float] | None = None,
    core: int | None = None,
    is_empty: bool = False,
    ports: tuple[int, int] | None = None,
    runtime: str = RUNTIME,
) -> AsyncIterator[MLServer]:
    """Start ``mlserver start`` on a folder with a model in each of its folders; ends it with the block.

    `batch`: ``{"max_batch_size": 100, "max_batch_time": 0.01}`` switches on MLServer's own batching. With
    `is_empty`, nothing is loaded at first. `ports` are those of REST and gRPC; None: free ones. `runtime` is the
    class that loads and predicts.
    """
    http, grpc, metrics = (*ports, free_port()) if ports else free_ports(3)
    names = _write_settings(models, runtime, batch or {})
    environment = {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": str(http),
        "MLSERVER_GRPC_PORT": str(grpc),
        "MLSERVER_METRICS_PORT": str(metrics),
        "MLSERVER_PARALLEL_WORKERS": "0",
        "MLSERVER_DEBUG": "false",
        "MLSERVER_LOAD_MODELS_AT_STARTUP": "false" if is_empty else "true",
        "PYTHONPATH": str(ROOT),
    }
    signs = {f"Uvicorn running on http://127.0.0.1:{http} "}
    if not is_empty:
        signs |= {f"Loaded model '{name}'" for name in names}
    command = (str(Path(sys.executable).with_name("mlserver")), "start", str(models))
    async with child(command, _Said(signs), core=core, environment=environment, start_s=START_S) as server:
        yield MLServer(f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}", server.pid)


def _write_settings(models: Path, runtime: str, more: dict[str, Any]) -> list[str]:
    """Tell the server what is in each of its folders; the models' names."""
    names = sorted(path.parent.name for path in models.glob("*/model.joblib"))
    for name in names:
        parameters = {"uri": "./model.joblib", "version": "v1"}
        settings = {"name": name, "implementation": runtime, "parameters": parameters, **more}
        (models / name / "model-settings.json").write_text(json.dumps(settings), encoding="utf-8")
    return names


class _Said:
    """Becomes true of the line that brings the last of some words, in whatever order they come."""

    def __init__(self, words: set[str]) -> None:
        self._missing = words

    def __call__(self, line: str) -> bool | None:
        self._missing = {word for word in self._missing if word not in line}
        return True if not self._missing else None
