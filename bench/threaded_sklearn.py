"""MLServer's scikit-learn runtime, but for one thing: it loads in a thread.

MLServer's own calls `joblib.load` on its event loop, which answers nobody meanwhile. To tell what a proxy
adds to that, a measurement needs a server that does not do so."""

from __future__ import annotations

import asyncio

import joblib
from mlserver.utils import get_model_uri
from mlserver_sklearn import SKLearnModel

__all__ = ("ThreadedSKLearn",)


class ThreadedSKLearn(SKLearnModel):  # type: ignore[misc]  # a class without types
    """Named in ``model-settings.json`` as the implementation."""

    async def load(self) -> bool:
        """Load without holding up whoever asks other models."""
        self._model = await asyncio.to_thread(joblib.load, await get_model_uri(self._settings))
        return True
