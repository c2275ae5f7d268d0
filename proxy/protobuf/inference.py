"""The messages of Open Inference over gRPC: field numbers, and where tensors keep their elements.

Numbers as in the published ``grpc_predict_v2.proto`` and ``grpc_service.proto``, package ``inference``. An
``InferParameter`` is a choice of field 1 (bool), 2 (int64), 3 (string), 4 (double) or 5 (uint64).

A tensor's elements are either all in ``raw_…_contents`` of the message, one entry for each tensor, in the
layout of `proxy.datatypes`; or in ``contents`` of each tensor, in the one repeated field that its datatype
calls for (`CONTENTS`). ``FP16`` and ``BF16`` have no such field.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from proxy.protobuf.repeated import Repeated
from proxy.protobuf.wire import VARINT, key

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = (
    "ANSWER",
    "CONTENTS",
    "ENTRY_KEY",
    "ENTRY_VALUE",
    "ID",
    "MODEL_NAME",
    "MODEL_VERSION",
    "PARAMETERS",
    "RAW_INPUT",
    "RAW_OUTPUT",
    "REQUESTED",
    "TENSOR",
    "TENSOR_CONTENTS",
    "TENSOR_DATATYPE",
    "TENSOR_NAME",
    "TENSOR_PARAMETERS",
    "TENSOR_SHAPE",
    "TENSOR_SIZE",
)

MODEL_NAME: Final = key(1)
MODEL_VERSION: Final = key(2)
ID: Final = key(3)
PARAMETERS: Final = key(4)
TENSOR: Final = key(5)
"""An input of a request, an output of an answer."""
REQUESTED: Final = key(6)
"""An output that a request asks for: its name is field 1, its parameters field 2."""
RAW_INPUT: Final = key(7)
RAW_OUTPUT: Final = key(6)

TENSOR_NAME: Final = key(1)
TENSOR_DATATYPE: Final = key(2)
TENSOR_SHAPE: Final = key(3)
"""All dimensions, packed."""
TENSOR_SIZE: Final = key(3, VARINT)
"""One dimension, from a writer that does not pack."""
TENSOR_PARAMETERS: Final = key(4)
TENSOR_CONTENTS: Final = key(5)

ANSWER: Final = frozenset((MODEL_NAME, MODEL_VERSION, ID, PARAMETERS, TENSOR, RAW_OUTPUT))
"""The fields of an answer."""

ENTRY_KEY: Final = key(1)
ENTRY_VALUE: Final = key(2)
"""Parameters are a map: entries of a key and a value."""

CONTENTS: Final[Mapping[str, Repeated]] = MappingProxyType({
    "BOOL": Repeated(1, is_signed=False),
    "INT8": Repeated(2),
    "INT16": Repeated(2),
    "INT32": Repeated(2),
    "INT64": Repeated(3),
    "UINT8": Repeated(4, is_signed=False),
    "UINT16": Repeated(4, is_signed=False),
    "UINT32": Repeated(4, is_signed=False),
    "UINT64": Repeated(5, is_signed=False),
    "FP32": Repeated(6, 4),
    "FP64": Repeated(7, 8),
    "BYTES": Repeated(8, is_bytes=True),
})  # fmt: skip
"""The field of ``InferTensorContents`` by datatype."""
