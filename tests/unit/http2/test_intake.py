"""Reading into memory that is used again."""

from __future__ import annotations

from proxy.http2.intake import BULKY, Intake, ReadBuffer


class Link:
    """Notes what its intake says."""

    def __init__(self) -> None:
        self.said: list[object] = []
        self.views: list[memoryview] = []

    def data_received(self, data: bytes) -> None:
        self.said.append(data)

    def view_received(self, view: memoryview) -> None:
        self.views.append(view)

    def eof_received(self) -> None:
        self.said.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.said.append(exc)

    def pause_writing(self) -> None:
        self.said.append("pause")

    def resume_writing(self) -> None:
        self.said.append("resume")


def test_memory_is_used_again() -> None:
    buffer = ReadBuffer()
    first = buffer.free()
    size = len(first)
    assert buffer.free() is first
    assert len(first) == size


def test_memory_that_somebody_refers_into_is_left_to_them() -> None:
    buffer = ReadBuffer()
    first = buffer.free()
    first[:4] = b"kept"
    kept = memoryview(first)[:4]
    second = buffer.free()
    assert second is not first
    second[:4] = b"next"
    assert bytes(kept) == b"kept"
    assert buffer.free() is second


def test_a_large_read_is_a_view_and_a_small_one_is_not() -> None:
    link, buffer = Link(), ReadBuffer()
    intake = Intake(link, buffer)
    memory = intake.get_buffer(-1)
    memory[:5] = b"small"
    intake.buffer_updated(5)
    assert link.said == [b"small"]
    memory = intake.get_buffer(65536)
    memory[:5] = b"large"
    intake.buffer_updated(BULKY)
    (view,) = link.views
    assert len(view) == BULKY
    assert view.obj is memory
    assert bytes(view[:5]) == b"large"
    assert intake.get_buffer(-1) is not memory


def test_a_buffer_is_shared() -> None:
    buffer = ReadBuffer()
    assert Intake(Link(), buffer).get_buffer(-1) is Intake(Link(), buffer).get_buffer(-1)


def test_the_rest_goes_to_the_link() -> None:
    link = Link()
    intake = Intake(link, ReadBuffer())
    error = OSError()
    intake.eof_received()
    intake.pause_writing()
    intake.resume_writing()
    intake.connection_lost(error)
    assert link.said == ["eof", "pause", "resume", error]
