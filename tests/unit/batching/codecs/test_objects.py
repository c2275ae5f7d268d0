"""Objects read field by field."""

from __future__ import annotations

import msgspec
import pytest

from proxy.batching.codecs.objects import list_decoder


def test_a_list_that_stands_alone_is_read_without_a_dictionary() -> None:
    read = list_decoder("instances")
    assert [bytes(row) for row in read(b' {"instances" : [[1, 2] ,3.50]} ')] == [b"[1, 2]", b"3.50"]


@pytest.mark.parametrize(
    "body", [b"{}", b'{"rows":[1]}', b'{"instances":[1],"k":2}', b'{"instances":{}}', b"[1]"]
)
def test_any_other_object_is_not(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        list_decoder("instances")(body)
