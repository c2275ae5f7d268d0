"""Open Inference (V2) REST: metadata, configuration, inference with several inputs and outputs, repository.

Tensor data may come flat or nested. Nested input is answered nested and flat input flat, so that a client
gets back the form it speaks. Errors are ``{"error": "…"}``; everything about a request that can be checked is
checked before the model runs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from proxy.demo.messages import Answer, ApiError, Inference, Request, json_answer

if TYPE_CHECKING:
    from proxy.demo.kserve_v1 import Compute
    from proxy.demo.models import Columns, Model, TensorSpec

__all__ = ("SERVER", "config", "infer", "metadata")

SERVER = {"name": "pillion-demo", "version": "1", "extensions": ["model_repository"]}

VERSION = "1"


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class _Output(msgspec.Struct):
    name: str


class _Body(msgspec.Struct):
    inputs: list[_Tensor]
    id: str | None = None
    outputs: list[_Output] | None = None


_decode = msgspec.json.Decoder(_Body).decode


def metadata(name: str, model: Model) -> Answer:
    """``GET /v2/models/{m}``."""
    return json_answer(
        {
            "name": name,
            "versions": [VERSION],
            "platform": "pillion_demo",
            "inputs": [_describe(tensor) for tensor in model.inputs],
            "outputs": [_describe(tensor) for tensor in model.outputs],
        }
    )


def config(name: str, max_batch_size: int) -> Answer:
    """``GET /v2/models/{m}/config``: what a client may learn about batches (0: no limit, nothing is said).

    A `max_batch_size` of 0 would mean that the model takes no batch dimension at all.
    """
    limit = {"max_batch_size": max_batch_size} if max_batch_size else {}
    return json_answer({"name": name, "platform": "pillion_demo", **limit})


def infer(name: str, model: Model, compute: Compute, request: Request) -> Inference:
    """``POST /v2/models/{m}/infer``: the requested outputs, all of them unless some are named."""
    try:
        body = _decode(request.body)
    except msgspec.DecodeError as error:
        raise ApiError(400, f"failed to parse the request JSON buffer: {error}") from None
    items, columns = _columns(name, model, body.inputs)
    wanted = _wanted(name, model, body.outputs)
    nested = any(tensor.data and isinstance(tensor.data[0], list) for tensor in body.inputs)

    def run() -> Answer:
        results = compute(columns)
        outputs = [_output(tensor, results[tensor.name], nested=nested) for tensor in wanted]
        reply = {"model_name": name, "model_version": VERSION, "outputs": outputs}
        if body.id is not None:
            reply["id"] = body.id
        return json_answer(reply)

    return Inference(name, items, run)


def _describe(tensor: TensorSpec) -> dict[str, object]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape}


def _columns(name: str, model: Model, tensors: list[_Tensor]) -> tuple[int, Columns]:
    specs = {spec.name: spec for spec in model.inputs}
    if len(tensors) != len(specs):
        raise ApiError(400, f"expected {len(specs)} inputs but got {len(tensors)} inputs for model '{name}'")
    columns: dict[str, list[Any]] = {}
    for tensor in tensors:
        spec = specs.get(tensor.name)
        if spec is None or tensor.name in columns:
            raise ApiError(400, f"unexpected inference input '{tensor.name}' for model '{name}'")
        _check(name, tensor, spec)
        columns[tensor.name] = _rows(tensor, flat_items=len(spec.shape) == 1)
    counts = {len(column) for column in columns.values()}
    if len(counts) != 1:
        raise ApiError(400, f"inputs of model '{name}' disagree about the batch size: {sorted(counts)}")
    return counts.pop(), columns


def _check(name: str, tensor: _Tensor, spec: TensorSpec) -> None:
    where = f"inference input '{tensor.name}' of model '{name}'"
    if tensor.datatype != spec.datatype:
        raise ApiError(400, f"{where} has data-type '{tensor.datatype}', expected '{spec.datatype}'")
    fits = len(tensor.shape) == len(spec.shape) and all(
        got >= 0 and wanted in {-1, got} for got, wanted in zip(tensor.shape, spec.shape, strict=True)
    )
    if not fits:
        raise ApiError(400, f"unexpected shape for {where}: expected {list(spec.shape)}, got {tensor.shape}")


def _rows(tensor: _Tensor, *, flat_items: bool) -> list[Any]:
    data, (items, *rest) = tensor.data, tensor.shape
    if flat_items or (data and isinstance(data[0], list)):
        rows, got = data, len(data)
    else:
        stride = math.prod(rest)
        rows, got = [data[i * stride : (i + 1) * stride] for i in range(items)], len(data)
        items *= stride
    width = rest[0] if rest else None
    if got != items or any(isinstance(row, list) and len(row) != width for row in rows):
        raise ApiError(
            400, f"unable to parse 'data' of '{tensor.name}': shape {tensor.shape} does not match it"
        )
    return rows


def _wanted(name: str, model: Model, requested: list[_Output] | None) -> list[TensorSpec]:
    if not requested:
        return list(model.outputs)
    specs = {spec.name: spec for spec in model.outputs}
    for output in requested:
        if output.name not in specs:
            raise ApiError(400, f"unexpected inference output '{output.name}' for model '{name}'")
    return [specs[output.name] for output in requested]


def _output(spec: TensorSpec, column: list[Any], *, nested: bool) -> dict[str, object]:
    shape = [len(column)]
    data = column
    if len(spec.shape) == 2:
        shape.append(len(column[0]) if column else max(spec.shape[1], 0))
        if not nested:
            data = [element for row in column for element in row]
    return {"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": data}
