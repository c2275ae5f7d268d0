"""The JSON Schema of the YAML, for editors: completion, hover texts and red underlines while typing.

Made from the model. What the model cannot say of itself is added: ``x-…`` keys where the keys are fixed, and
``${env:…}`` in place of any scalar.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from proxy.config.model import Config
from proxy.config.shape import spelt_defaults, structs_of

if TYPE_CHECKING:
    from proxy.config.fields import Policy

__all__ = ("json_schema", "schema_text")

_ENVIRONMENT: Final = {
    "description": "Filled in from the environment.",
    "type": "string",
    "pattern": r"\$\{env:[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}",
}
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_IDENTIFIER: Final = "urn:pillion:config:v1"


def json_schema() -> dict[str, Any]:
    """The schema of version 1."""
    schema = Config.model_json_schema()
    structs = structs_of(Config)
    for name, definition in schema["$defs"].items():
        _complete(definition, structs[name])
    _complete(schema, Config)
    schema["$defs"]["Environment"] = _ENVIRONMENT
    return {"$schema": _DIALECT, "$id": _IDENTIFIER, **schema, "title": "Pillion"}


def schema_text() -> str:
    """The schema as it is committed and printed."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _complete(definition: dict[str, Any], struct: type[Policy]) -> None:
    """Say what holds for every struct, and spell the defaults as an operator would."""
    defaults = spelt_defaults(struct)
    definition["patternProperties"] = {"^x-": True}
    definition["properties"] = {
        name: _or_environment(_described(each, defaults.get(name)))
        for name, each in definition["properties"].items()
    }


def _described(schema: dict[str, Any], default: object) -> dict[str, Any]:
    described = {key: value for key, value in schema.items() if key not in {"default", "title"}}
    if "patternProperties" in described:  # names that the operator chooses, but not any
        described["additionalProperties"] = False
    if "description" in described:
        described["description"] = " ".join(described["description"].split())
    if default is not None and not isinstance(default, dict):  # the fields of a struct have their own
        described["default"] = default
    return described


def _or_environment(schema: dict[str, Any]) -> dict[str, Any]:
    """`schema`, or a placeholder where a scalar is wanted that the placeholder's own text is not."""
    if "items" in schema:
        return schema | {"items": _or_environment(schema["items"])}
    wants_scalar = schema.get("type") in {"integer", "number", "boolean"} or bool(
        {"enum", "const", "pattern"} & schema.keys()
    )
    if not wants_scalar and "anyOf" not in schema:
        return schema
    kept = {key: value for key, value in schema.items() if key in {"description", "default"}}
    rest = {key: value for key, value in schema.items() if key not in kept}
    return {"anyOf": [*rest.pop("anyOf", [rest]), {"$ref": "#/$defs/Environment"}], **kept}
