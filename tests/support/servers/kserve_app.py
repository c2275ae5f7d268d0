"""KServe's Python model server with three models, as KServe's own runtimes are written.

    python kserve_app.py HTTP_PORT WEIGHTS.npz

Run by the interpreter of the environment that KServe is installed in; nothing of this project is imported.

* ``digits``: a linear classifier of 64 pixels, one label for each row; answers V1 and V2.
* ``width``: for rows of any one width, their sum and their length: two outputs in V2.
* ``pair``: two inputs of one row each, added (V2 only).

Every answer is made of whole numbers, so that equal means equal.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import get_predict_input, get_predict_response

# For V1 a document, for V2 a request object; unknown where types are checked, because KServe is not installed.
Payload: TypeAlias = Any
Answer: TypeAlias = Any


class Digits(Model):  # type: ignore[misc]  # KServe is not installed where types are checked
    """What KServe's scikit-learn runtime does, without scikit-learn."""

    def __init__(self, weights: str) -> None:
        super().__init__("digits")
        with np.load(weights) as found:
            self._slopes, self._offsets = found["slopes"], found["offsets"]
        self.ready = True

    async def predict(
        self, payload: Payload, headers: object = None, response_headers: object = None
    ) -> Answer:
        """A label for each row."""
        rows = get_predict_input(payload)
        labels = np.argmax(rows @ self._slopes + self._offsets, axis=1)
        return get_predict_response(payload, labels, self.name)


class Width(Model):  # type: ignore[misc]  # as above
    """Takes rows of any width; all of one call have the same."""

    def __init__(self) -> None:
        super().__init__("width")
        self.ready = True

    async def predict(
        self, payload: Payload, headers: object = None, response_headers: object = None
    ) -> Answer:
        """Sum and length of each row."""
        rows = get_predict_input(payload)
        sums = rows.sum(axis=1).astype(np.int64)
        lengths = np.full(len(rows), rows.shape[1], dtype=np.int64)
        if isinstance(payload, dict):
            return {"predictions": [[int(s), int(n)] for s, n in zip(sums, lengths, strict=True)]}
        return answered(payload, self.name, sum=sums, length=lengths)


class Pair(Model):  # type: ignore[misc]  # as above
    """Takes two tensors."""

    def __init__(self) -> None:
        super().__init__("pair")
        self.ready = True

    async def predict(
        self, payload: Payload, headers: object = None, response_headers: object = None
    ) -> Answer:
        """The tensors added, element by element."""
        assert isinstance(payload, InferRequest)
        tensors = {tensor.name: tensor.as_numpy() for tensor in payload.inputs}
        return answered(payload, self.name, sum=tensors["left"] + tensors["right"])


def answered(request: InferRequest, model: str, **outputs: np.ndarray) -> InferResponse:
    """An Open Inference answer; its tensors are binary where the request asks for that."""
    made = []
    for name, values in outputs.items():
        output = InferOutput(name=name, shape=list(values.shape), datatype=DATATYPES[values.dtype.name])
        output.set_data_from_numpy(values, binary_data=request.use_binary_outputs)
        made.append(output)
    return InferResponse(
        response_id=request.id,
        model_name=model,
        infer_outputs=made,
        use_binary_outputs=request.use_binary_outputs,
        requested_outputs=request.request_outputs,
    )


DATATYPES = {"int64": "INT64", "float32": "FP32"}

if __name__ == "__main__":
    port, weights = sys.argv[1:]
    server = ModelServer(http_port=int(port), enable_grpc=False, workers=1, enable_docs_url=False)
    server.start([Digits(weights), Width(), Pair()])
