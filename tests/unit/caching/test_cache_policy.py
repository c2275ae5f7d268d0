from __future__ import annotations

import pytest

from proxy.caching.policy import CachePolicy, StorePolicy
from proxy.config.fields import Secret


def test_nothing_is_kept_by_default() -> None:
    assert CachePolicy().mode == "off"
    assert (StorePolicy().backend, StorePolicy().metadata) == ("memory", 0.0)


@pytest.mark.parametrize("url", [None, Secret("")])
@pytest.mark.parametrize("backend", ["sqlite", "redis"])
def test_a_storage_needs_a_place(backend: str, url: Secret | None) -> None:
    with pytest.raises(ValueError, match="needs a url"):
        StorePolicy.model_validate({"backend": backend, "url": url})
    assert StorePolicy.model_validate({"backend": backend, "url": Secret("x")}).url == Secret("x")
