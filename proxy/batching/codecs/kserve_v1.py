"""KServe V1: ``POST /v1/models/{m}:predict``, ``{"instances": [x, …]}`` to ``{"predictions": [y, …]}``.

Theory of operation
-------------------
The plain row form (see `rows`). V1 servers also read ``inputs``, whose meaning depends on the model; a
request that has it is not merged. ``:explain`` answers are the explainer's own and are not merged either:
no route names this codec for them.
"""

from __future__ import annotations

from proxy.batching.codecs.rows import RowCodec

__all__ = ("KServeV1",)


class KServeV1(RowCodec):
    """``{"instances": […]}`` in, ``{"predictions": […]}`` out."""

    def __init__(self) -> None:
        super().__init__("kserve_v1", "instances", ("predictions",), excluded=("inputs",))
