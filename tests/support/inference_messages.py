"""The messages of both gRPC inference protocols as classes of the ``protobuf`` package: what our bytes are checked by.

Made of the field numbers and types in the published ``.proto`` files, without generated code. A field is
``name:number type``; ``*`` marks a repeated one, ``?`` one of a choice, ``name{}`` a map from strings.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ("Proto", "inference", "put", "tensorflow")

Proto = Any
"""A message of a class that is made at run time: its fields have no types."""

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "double": _Field.TYPE_DOUBLE,
    "float": _Field.TYPE_FLOAT,
    "int32": _Field.TYPE_INT32,
    "int64": _Field.TYPE_INT64,
    "string": _Field.TYPE_STRING,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}

_INFERENCE = {
    "InferParameter": "bool_param:1 ?bool|int64_param:2 ?int64|string_param:3 ?string|double_param:4 ?double|uint64_param:5 ?uint64",
    "InferTensorContents": "bool_contents:1 *bool|int_contents:2 *int32|int64_contents:3 *int64|uint_contents:4 *uint32|"
    "uint64_contents:5 *uint64|fp32_contents:6 *float|fp64_contents:7 *double|bytes_contents:8 *bytes",
    "InferTensor": "name:1 string|datatype:2 string|shape:3 *int64|parameters{}:4 InferParameter|contents:5 InferTensorContents",
    "InferRequestedOutput": "name:1 string|parameters{}:2 InferParameter",
    "ModelInferRequest": "model_name:1 string|model_version:2 string|id:3 string|parameters{}:4 InferParameter|"
    "inputs:5 *InferTensor|outputs:6 *InferRequestedOutput|raw_input_contents:7 *bytes",
    "ModelInferResponse": "model_name:1 string|model_version:2 string|id:3 string|parameters{}:4 InferParameter|"
    "outputs:5 *InferTensor|raw_output_contents:6 *bytes",
    "ServerLiveResponse": "live:1 bool",
    "ServerReadyResponse": "ready:1 bool",
    "ModelReadyRequest": "name:1 string|version:2 string",
    "ModelReadyResponse": "ready:1 bool",
    "ServerMetadataResponse": "name:1 string|version:2 string|extensions:3 *string",
    "ModelMetadataRequest": "name:1 string|version:2 string",
    "TensorMetadata": "name:1 string|datatype:2 string|shape:3 *int64|parameters{}:4 InferParameter",
    "ModelMetadataResponse": "name:1 string|versions:2 *string|platform:3 string|inputs:4 *TensorMetadata|"
    "outputs:5 *TensorMetadata|parameters{}:6 InferParameter",
    "ModelConfigRequest": "name:1 string|version:2 string",
    "ModelConfig": "name:1 string|platform:2 string|max_batch_size:4 int32",
    "ModelConfigResponse": "config:1 ModelConfig",
    "ModelIndex": "name:1 string|version:2 string|state:3 string|reason:4 string",
    "RepositoryIndexRequest": "repository_name:1 string|ready:2 bool",
    "RepositoryIndexResponse": "models:1 *ModelIndex",
}
_TENSORFLOW = {
    "Int64Value": "value:1 int64",
    "ModelSpec": "name:1 string|version:2 Int64Value|signature_name:3 string|version_label:4 string",
    "Dim": "size:1 int64|name:2 string",
    "TensorShapeProto": "dim:2 *Dim|unknown_rank:3 bool",
    "TensorProto": "dtype:1 int32|tensor_shape:2 TensorShapeProto|version_number:3 int32|tensor_content:4 bytes|"
    "float_val:5 *float|double_val:6 *double|int_val:7 *int32|string_val:8 *bytes|scomplex_val:9 *float|"
    "int64_val:10 *int64|bool_val:11 *bool|dcomplex_val:12 *double|half_val:13 *int32|uint32_val:16 *uint32|"
    "uint64_val:17 *uint64",
    "PredictRequest": "model_spec:1 ModelSpec|inputs{}:2 TensorProto|output_filter:3 *string|"
    "predict_streamed_options:5 bytes|client_id:6 bytes",
    "PredictResponse": "outputs{}:1 TensorProto|model_spec:2 ModelSpec",
}  # fmt: skip


class _Package:
    """Message classes by name."""

    def __init__(self, package: str, messages: dict[str, str]) -> None:
        file = descriptor_pb2.FileDescriptorProto(
            name=f"{package}.test.proto", package=f"{package}.test", syntax="proto3"
        )
        for name, fields in messages.items():
            message = file.message_type.add(name=name)
            for text in fields.split("|"):
                _add_field(message, f".{package}.test", *text.split(":"))
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        self._classes = {
            name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.test.{name}"))
            for name in messages
        }

    def __getattr__(self, name: str) -> type[Any]:
        return self._classes[name]


def _add_field(message: descriptor_pb2.DescriptorProto, package: str, name: str, rest: str) -> None:
    number, kind = rest.split()
    is_repeated, is_map, is_choice = kind.startswith("*"), name.endswith("{}"), kind.startswith("?")
    name = name.removesuffix("{}")
    if is_map:
        entry = message.nested_type.add(name=f"{name.title()}Entry")
        entry.options.map_entry = True
        _add_field(entry, package, "key", "1 string")
        _add_field(entry, package, "value", f"2 {kind}")
        field = message.field.add(name=name, number=int(number), type=_Field.TYPE_MESSAGE)
        field.type_name = f"{package}.{message.name}.{entry.name}"
    else:
        kind = kind.lstrip("*?")
        field = message.field.add(name=name, number=int(number), type=_SCALARS.get(kind, _Field.TYPE_MESSAGE))
        if kind not in _SCALARS:
            field.type_name = f"{package}.{kind}"
    if is_choice:
        if not message.oneof_decl:
            message.oneof_decl.add(name="choice")
        field.oneof_index = 0
    field.label = _Field.LABEL_REPEATED if is_repeated or is_map else _Field.LABEL_OPTIONAL


def put(message: Proto, **fields: Proto) -> Proto:
    """`message` with these fields set; a list takes the place of a repeated one."""
    for name, value in fields.items():
        if isinstance(value, list):
            message.ClearField(name)
            getattr(message, name).extend(value)
        else:
            setattr(message, name, value)
    return message


inference = _Package("inference", _INFERENCE)
"""Open Inference: ``inference.ModelInferRequest`` and so on."""

tensorflow = _Package("tensorflow", _TENSORFLOW)
"""TensorFlow Serving."""
