"""The protocols whose calls can be merged, by the names that routes use."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from proxy.batching.codecs.kserve_v1 import KServeV1
from proxy.batching.codecs.mlflow import Mlflow
from proxy.batching.codecs.open_inference_grpc import OpenInferenceGrpc
from proxy.batching.codecs.open_inference_rest import OpenInference
from proxy.batching.codecs.openai import OpenAiCompletions, OpenAiEmbeddings
from proxy.batching.codecs.tei import TeiEmbed, TeiPredict, TeiRerank
from proxy.batching.codecs.tf_serving import TfServing, TfServingExamples
from proxy.batching.codecs.tf_serving_grpc import TfServingGrpc
from proxy.batching.codecs.torchserve import TorchServe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.batching.codecs.base import Codec

__all__ = ("CODECS",)

_ALL: Final[tuple[Codec, ...]] = (
    KServeV1(),
    OpenInference(),
    OpenInferenceGrpc(),
    TfServing(),
    TfServingExamples(),
    TfServingGrpc(),
    TorchServe(),
    Mlflow(),
    OpenAiEmbeddings(),
    OpenAiCompletions(),
    TeiEmbed(),
    TeiPredict(),
    TeiRerank(),
)

CODECS: Final[Mapping[str, Codec]] = MappingProxyType({codec.name: codec for codec in _ALL})
