"""A custom MLServer runtime, as its documentation shows how to write one: two inputs of different types.

For each item it takes the readings of one sensor (``readings``, numbers, any width) and its name (``sensor``,
``BYTES``); it answers with their sum, with a sentence about them (``BYTES``), and with the readings doubled. The
model's own name stands in the sentence, so that an answer of another model's cannot be mistaken for its own.
"""

from __future__ import annotations

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse

__all__ = ("Sensors",)


class Sensors(MLModel):  # type: ignore[misc]  # MLServer has no types
    """See the module's text."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """One answer for each sensor."""
        inputs = {tensor.name: tensor for tensor in payload.inputs}
        readings = np.asarray(NumpyCodec.decode_input(inputs["readings"]), dtype=np.float64)
        sensors = StringCodec.decode_input(inputs["sensor"])
        if np.isnan(readings).any() or "broken" in sensors:
            raise InferenceError("a sensor is broken")
        sums = readings.sum(axis=1)
        told = [f"{self.name}: {sensor} has {total:g}" for sensor, total in zip(sensors, sums, strict=True)]
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[
                NumpyCodec.encode_output("sum", sums),
                StringCodec.encode_output("told", told),
                NumpyCodec.encode_output("doubled", 2 * readings),
            ],
        )
