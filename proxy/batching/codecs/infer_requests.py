"""The JSON of an Open Inference request, as far as merging has to understand it (pure)."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Raw, UnsetType

__all__ = ("InferRequest", "Input", "Request")


class Input(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One tensor, its `data` as JSON."""

    name: str
    shape: list[int]
    datatype: str
    data: Raw
    parameters: Raw | UnsetType = UNSET


class Request(msgspec.Struct, forbid_unknown_fields=True, gc=False, kw_only=True):
    """The fields of a request beside its inputs."""

    id: Raw | UnsetType = UNSET
    parameters: Raw | UnsetType = UNSET
    outputs: Raw | UnsetType = UNSET


class InferRequest(Request, forbid_unknown_fields=True, gc=False, kw_only=True):
    """A request whose tensors are JSON."""

    inputs: list[Input]
