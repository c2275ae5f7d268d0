"""The protocols whose calls can be merged, by the names that routes use."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from proxy.batching.codecs.kserve_v1 import KServeV1
from proxy.batching.codecs.open_inference import OpenInference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.batching.codecs.base import Codec

__all__ = ("CODECS",)

CODECS: Final[Mapping[str, Codec]] = MappingProxyType(
    {codec.name: codec for codec in (KServeV1(), OpenInference())}
)
