"""Whatever is written, the loader answers with a configuration or with problems; and a dump is the configuration."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.dump import dump
from proxy.config.load import load_text
from proxy.config.problems import Problem, render_problems
from proxy.errors import ConfigError

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,6}", fullmatch=True)
globs = st.text(alphabet="ab*?-. [:{#'\"\\$né0", min_size=1, max_size=6).filter(lambda glob: "**" not in glob)
durations = st.builds("{}{}".format, st.integers(0, 87_600), st.sampled_from(["us", "ms", "s", "m", "h"]))
sizes = st.builds("{}{}".format, st.integers(0, 9999), st.sampled_from(["B", "KiB", "MiB", "kB", "GB"]))
shares = st.decimals(0, 100, places=4).map("{}%".format)


def some(**fields: st.SearchStrategy[object]) -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional=dict(fields))


items = (
    st.lists(st.integers(1, 10_000), min_size=3, max_size=3)
    .map(sorted)
    .map(lambda three: dict(zip(("least", "start", "most"), three, strict=True)))
)
batches = some(
    mode=st.sampled_from(["adaptive", "window", "off"]),
    max_wait=durations,
    items=items,
    inflight=st.just("auto") | st.integers(1, 9),
    max_bytes=sizes,
    isolate=st.lists(st.text(alphabet="ab-${}: ", max_size=5), max_size=2),
)
upstreams = st.fixed_dictionaries(
    {
        "http": st.lists(
            st.sampled_from(["http://a", "https://b:1", "unix:/x y", "http://[::1]:7"]),
            min_size=1,
            max_size=2,
        )
    },
    optional={
        "protocol": st.sampled_from(["kserve-v1", "open-inference", "openai", "generic"]),
        "pool": some(http=some(max=st.integers(1, 999), idle=durations)),
        "timeouts": some(first_byte=durations),
        "host": st.sampled_from(["preserve", "off", "010", "a.b:1", "1", "1:30"]),
    },
)


@st.composite
def documents(draw: st.DrawFn) -> dict[str, object]:
    chosen = draw(st.dictionaries(names, upstreams, min_size=1, max_size=3))
    route = st.fixed_dictionaries(
        {
            "match": st.fixed_dictionaries(
                {"path": st.sampled_from(["/", "/a/{model}*", "/b"])}, optional={"method": st.just("GET")}
            ),
            "upstream": st.sampled_from(sorted(chosen)),
        },
        optional={"timeout": durations},
    )
    rest = some(
        server=some(limits=some(body=sizes, inflight=st.integers(1, 99)), drain=some(grace=durations)),
        routes=st.lists(route, max_size=2),
        models=st.dictionaries(globs, some(batch=batches), max_size=4),
        observe=some(access_log=some(format=st.sampled_from(["json", "off"]), ok=shares)),
    )
    return {"version": 1, "upstreams": chosen} | draw(rest)


def escaped(value: object) -> object:
    """`value` with its dollar signs meaning themselves."""
    if isinstance(value, dict):
        return {key: escaped(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [escaped(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


@pytest.mark.slow
@settings(deadline=None)
@given(documents(), st.lists(st.text(alphabet="ab.-", max_size=5), max_size=3))
def test_a_dump_loads_back_to_the_same_configuration(document: dict[str, object], models: list[str]) -> None:
    loaded = load_text(json.dumps(escaped(document)), "f", environ={})  # JSON is YAML
    dumped = dump(loaded)
    for text in (dumped, dump(loaded, with_origin=True)):
        again = load_text(text, "f", environ={})
        assert again.config == loaded.config
        assert dump(again) == dumped
        for model in models:
            assert again.config.model_policy(model) == loaded.config.model_policy(model)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
@settings(deadline=None)
@given(documents(), st.data(), values)
def test_anything_in_the_place_of_anything_is_a_configuration_or_problems(
    document: dict[str, object], data: st.DataObject, value: object
) -> None:
    where: dict[str, object] = document
    while True:
        key = data.draw(st.sampled_from(sorted(where)))
        inner = where[key]
        if not (isinstance(inner, dict) and inner and data.draw(st.booleans())):
            break
        where = inner
    where[key] = value
    expect_an_answer(json.dumps(document))


@pytest.mark.slow
@settings(deadline=None)
@given(st.text(alphabet="ab:-{}[]&*!|>'\"%@`#,?\n \t0~<$\r\x85\u2028\x00é") | st.text())
def test_any_text_is_a_configuration_or_problems(text: str) -> None:
    expect_an_answer(text)
    expect_an_answer(f"version: 1\nupstreams: {text}")


def expect_an_answer(text: str) -> None:
    try:
        load_text(text, "f", environ={})
    except ConfigError as error:
        found = error.problems
    else:
        return
    problems = [problem for problem in found if isinstance(problem, Problem)]
    assert problems
    assert len(problems) == len(found)
    assert render_problems(problems)
    assert json.loads(render_problems(problems, "json"))
