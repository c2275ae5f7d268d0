"""KServe's V1 protocol: ``/v1/models/{m}`` and ``/v1/models/{m}:predict``.

Instances are rows when the model has one input, objects keyed by input name otherwise; either form is
accepted where both can be meant. Errors are ``{"error": "…"}``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from proxy.demo.messages import Answer, ApiError, Inference, Request, json_answer
from proxy.demo.models import Columns, Model

__all__ = ("Compute", "predict", "ready")

Compute = Callable[[Columns], dict[str, list[Any]]]
"""A model's computation as a protocol sees it: raises `ApiError`."""


class _Body(msgspec.Struct):
    instances: list[Any]


_decode = msgspec.json.Decoder(_Body).decode


def ready(name: str, *, is_ready: bool) -> Answer:
    """``GET /v1/models/{m}``."""
    return json_answer({"name": name, "ready": is_ready})


def predict(name: str, model: Model, compute: Compute, request: Request) -> Inference:
    """``POST /v1/models/{m}:predict``: one prediction for each instance, in order."""
    try:
        instances = _decode(request.body).instances
    except msgspec.DecodeError as error:
        raise ApiError(400, f"Unrecognized request format: {error}") from None

    def run() -> Answer:
        outputs = compute(_columns(model, instances))
        return json_answer({"predictions": _predictions(model, outputs)})

    return Inference(name, len(instances), run)


def _columns(model: Model, instances: list[Any]) -> Columns:
    if len(model.inputs) == 1 and not (instances and isinstance(instances[0], dict)):
        return {model.inputs[0].name: instances}
    names = [tensor.name for tensor in model.inputs]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for index, instance in enumerate(instances):
        if not isinstance(instance, dict) or instance.keys() != columns.keys():
            raise ApiError(
                400, f"Failed to process element: {index} of 'instances' list: keys must be {names}"
            )
        for name, value in instance.items():
            columns[name].append(value)
    return columns


def _predictions(model: Model, outputs: dict[str, list[Any]]) -> list[Any]:
    if model.v1_output is not None:
        return outputs[model.v1_output]
    names = list(outputs)
    return [dict(zip(names, values, strict=True)) for values in zip(*outputs.values(), strict=True)]
