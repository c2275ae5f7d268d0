from __future__ import annotations

from typing import ClassVar

import msgspec
import pytest

from proxy.exchange import Stream
from proxy.telemetry.access_line import Scribe, Thinner, as_json, as_text, printable, redacted
from tests.unit.telemetry.calls import a_call, an_end

TS = "2030-01-02T03:04:05.678Z"


class TestPrintable:
    @pytest.mark.parametrize("text", ["", "/v2/models/iris/infer?a=b c", "~!@#$%^&*()"])
    def test_ordinary_text_is_left_alone(self, text: str) -> None:
        assert printable(text) == printable(text.encode()) == text

    HOSTILE: ClassVar[dict[str, tuple[str | bytes, str]]] = {
        "newline": (b"/a\r\nfake line", r"/a\r\nfake line"),
        "escape sequence": (b"\x1b[2J", r"\x1b[2J"),
        "delete": (b"a\x7f", r"a\x7f"),
        "8-bit control": (b"\x9b2J", r"\x9b2J"),
        "right-to-left override": ("evil\u202etxt", r"evil\u202etxt"),
        "line separator": ("a\u2028b", r"a\u2028b"),
        "an escape that was typed": (b"\\x1b\x1b", r"\\x1b\x1b"),
    }

    @pytest.mark.parametrize("name", HOSTILE)
    def test_hostile_text_is_spelled_out(self, name: str) -> None:
        given, shown = self.HOSTILE[name]
        assert printable(given) == shown

    def test_long_text_is_cut(self) -> None:
        assert printable("x" * 9, 4) == "xxxx..."


class TestRedacted:
    @pytest.mark.parametrize(
        "name",
        [
            b"token",
            b"access_token",
            b"id-token",
            b"key",
            b"api_key",
            b"apikey",
            b"X-API-Key",
            b"client_secret",
            b"password",
            b"pwd",
            b"sig",
            b"X-Amz-Signature",
            b"X-Amz-Credential",
            b"authorization",
            b"jwt",
            b"sessionid",
            b"sid",
            b"code",
            b"%74oken",
        ],
    )
    def test_values_of_credentials_are_hidden(self, name: bytes) -> None:
        assert redacted(b"/p?a=1&" + name + b"=abc=def&b=2") == b"/p?a=1&" + name + b"=***&b=2"

    @pytest.mark.parametrize(
        "target",
        [b"/p", b"/token=abc", b"/p?", b"/p?a=1&b=2", b"/p?monkey=1&codec=2&keyword=3", b"/p?token", b"*"],
    )
    def test_everything_else_is_kept(self, target: bytes) -> None:
        assert redacted(target) == target

    def test_semicolons_separate_too(self) -> None:
        assert redacted(b"/p?a=1;token=abc;b=2") == b"/p?a=1;token=***;b=2"

    def test_a_second_question_mark_hides_nothing_from_the_rule(self) -> None:
        assert redacted(b"/p?a?token=abc") == b"/p?a?token=***"


class TestThinner:
    @pytest.mark.parametrize(
        ("share", "taken"), [(0.0, 0), (0.001, 1), (0.1, 100), (0.333, 333), (1.0, 1000)]
    )
    def test_exactly_the_share_is_taken(self, share: float, taken: int) -> None:
        thinner = Thinner(share)
        assert sum(thinner.takes_next() for _ in range(1000)) == taken

    def test_the_share_is_spread_evenly(self) -> None:
        thinner = Thinner(0.25)
        assert [thinner.takes_next() for _ in range(8)] == [False, False, False, True] * 2


class TestLine:
    def test_json_has_every_key_in_a_fixed_order(self) -> None:
        call = a_call(b"/v2/models/iris/infer?api_key=abc", body=b"12345")
        call.queue_s, call.pool_s, call.upstream_s, call.batch = 0.0015, 0.0001, 0.008, b"size=37"
        line = as_json(Scribe().line(call, an_end(), TS))
        assert line == (
            b'{"ts":"2030-01-02T03:04:05.678Z","request_id":"r-1","client":"10.0.0.9","identity":"","protocol":"http",'
            b'"method":"POST","target":"/v2/models/iris/infer?api_key=***","route":"infer","model":"iris",'
            b'"status":200,"outcome":"ok","reason":"","ended_by":"","bytes_in":5,"bytes_out":345,'
            b'"ms":{"total":12.0,"queue":1.5,"pool":0.1,"upstream":8.0},"batch":"size=37"}\n'
        )

    def test_text_has_the_same_keys(self) -> None:
        line = as_text(
            Scribe().line(a_call(b'/p?say="hi"'), an_end("two words", "shed", 503, reason="draining"), TS)
        )
        assert line == (
            b'ts=2030-01-02T03:04:05.678Z request_id=r-1 client=10.0.0.9 identity="" protocol=http method=POST '
            b'target="/p?say=\\"hi\\"" route=infer model="two words" status=503 outcome=shed reason=draining '
            b'ended_by=- bytes_in=2 bytes_out=345 ms_total=12.0 ms_queue=0.0 ms_pool=0.0 ms_upstream=0.0 batch=""\n'
        )

    @pytest.mark.parametrize("form", [as_json, as_text])
    def test_nothing_that_a_client_sends_can_break_a_line(self, form: type) -> None:
        call = a_call(b"/p\r\n{}", request_id=b"id\x1b]0;x\x07\n")
        call.method, call.peer = b"GE\nT", b"1\n2"
        line = form(Scribe().line(call, an_end("m\n\u202e"), TS))
        assert line.count(b"\n") == 1
        assert line.isascii()
        assert line[:-1].decode().isprintable()

    def test_a_caller_is_known_by_its_certificate_or_its_key(self) -> None:
        call = a_call()
        call.identity = bytes.fromhex("d0c04f4b1951e4aeaaec8223ed2039e5")
        assert Scribe().line(call, an_end(), TS).identity == "sha256:d0c04f4b1951e4ae"
        call.certificate = b"spiffe://example.org/sa/client"
        assert Scribe().line(call, an_end(), TS).identity == "spiffe://example.org/sa/client"

    def test_a_request_id_is_cut_at_a_sensible_length(self) -> None:
        line = Scribe().line(a_call(request_id=b"x" * 5000), an_end(), TS)
        assert line.request_id == "x" * 128 + "..."

    def test_a_call_without_an_id_has_an_empty_one(self) -> None:
        call = a_call()
        call.headers = ()
        assert Scribe().line(call, an_end(), TS).request_id == ""

    @pytest.mark.parametrize("length", [7, None])
    def test_a_body_in_transit_counts_as_it_was_declared(self, length: int | None) -> None:
        call = a_call()
        call.body = Stream(None, length)
        line = Scribe().line(call, an_end(), TS)
        assert msgspec.json.decode(as_json(line))["bytes_in"] == length
        assert f"bytes_in={'-' if length is None else length} ".encode() in as_text(line)

    def test_what_was_seen_before_is_written_the_same_again(self) -> None:
        scribe = Scribe()
        short, long = a_call(b"/p?key=abc\n"), a_call(b"/p?key=abc&" + b"x" * 500 + b"\n")
        for call in (short, long):
            assert scribe.line(call, an_end(), TS) == scribe.line(call, an_end(), TS)
            assert "abc" not in scribe.line(call, an_end(), TS).target
