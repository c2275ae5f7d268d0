import pytest

from proxy.demo.__main__ import parse_options
from proxy.demo.options import DEFAULT_MODELS, DemoOptions, ModelSpec
from proxy.demo.run import listener_url, server_url


def test_every_option_is_a_flag() -> None:
    host, port, options = parse_options([
        "--port", "80", "--fixed-s", "0.005", "--parallelism", "4", "--poison-hint",
        "--model", "big=sum:2.5", "--model", "small=digits", "--fault", "stall=1", "--fault", "garbage; every=2",
    ])  # fmt: skip
    assert (host, port) == ("127.0.0.1", 80)
    assert options == DemoOptions(
        fixed_s=0.005,
        parallelism=4,
        poison_hint=True,
        models=(*DEFAULT_MODELS, ModelSpec("big", "sum", 2.5), ModelSpec("small", "digits")),
        faults=("stall=1", "garbage; every=2"),
    )


def test_without_flags_the_defaults() -> None:
    assert parse_options([])[2] == DemoOptions()


def test_an_unknown_kind_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options(["--model", "x=gpt"])
    assert "the kind is one of digits, sum" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "url"),
    [
        ("pillion http listening on 127.0.0.1:4711", "http://127.0.0.1:4711"),
        ("pillion http listening on http://127.0.0.1:4711", "http://127.0.0.1:4711"),
        ("pillion admin listening on 127.0.0.1:9901", None),
        ("INFO connecting to 127.0.0.1:8000", None),
    ],
)
def test_the_line_that_names_the_listener(line: str, url: str | None) -> None:
    assert listener_url(line) == url


def test_the_line_that_names_the_server() -> None:
    assert server_url('{"url": "http://127.0.0.1:1", "port": 1}') == "http://127.0.0.1:1"
    assert server_url("starting") is None
