from __future__ import annotations

import pytest

from proxy.errors import RouteNotFound
from proxy.routing.table import Match, Route, RouteTable, Rule


def route(name: str, *rules: tuple[str, str]) -> Route:
    made = tuple(Rule(tuple(methods.split()), path) for methods, path in rules)
    return Route(name, "m", "generic", "other", made)


def table(*routes: Route) -> RouteTable:
    return RouteTable(routes)


INFER = route("infer", ("POST", "/m/{model}/infer"))
VERSION = route("version", ("", "/m/{model}/v/{version}"))
REST = route("rest", ("", "*"))


def seen(match: Match) -> tuple[str, str, str | None]:
    return match.route.name, match.model, match.version


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/m/a/infer", ("infer", "a", None)),
        (b"/m/a/infer?model=b", ("infer", "a", None)),
        (b"/m/a/infer?", ("infer", "a", None)),
        (b"/m/a.b-c:d/infer", ("infer", "a.b-c:d", None)),
        (b"/m/a%2Fb%20c/infer", ("infer", "a/b c", None)),
        (b"/m/%C3%BC/infer", ("infer", "ü", None)),
        (b"/m/\xc3\xbc/infer", ("infer", "ü", None)),
        (b"/m/100%/infer", ("infer", "100%", None)),
        (b"/m/a\nb/infer", ("infer", "a\nb", None)),
        (b"/m/a/v/7", ("version", "a", "7")),
        (b"/m/a/v/%37", ("version", "a", "7")),
        (b"/m/%FF/infer", ("rest", "", None)),
        (b"/m/a/v/%FF", ("rest", "", None)),
        (b"/m//infer", ("rest", "", None)),
        (b"/m/a/b/infer", ("rest", "", None)),
        (b"/m/a/infer/", ("rest", "", None)),
        (b"/M/a/infer", ("rest", "", None)),
        (b"/m/a/%69nfer", ("rest", "", None)),
        (b"//m/a/infer", ("rest", "", None)),
        (b"", ("rest", "", None)),
        (b"*", ("rest", "", None)),
    ],
)
def test_matching(target: bytes, expected: tuple[str, str, str | None]) -> None:
    routes = table(INFER, VERSION, REST)
    assert seen(routes.match(b"POST", target)) == expected
    assert seen(routes.match(b"POST", target)) == expected


@pytest.mark.parametrize(
    ("method", "name"),
    [(b"GET", "get"), (b"HEAD", "get"), (b"PUT", "two"), (b"DELETE", "two"), (b"get", "any"), (b"X", "any")],
)
def test_methods(method: bytes, name: str) -> None:
    routes = table(route("get", ("GET", "/a")), route("two", ("PUT DELETE", "/a")), route("any", ("", "/a")))
    assert routes.match(method, b"/a").route.name == name


def test_the_first_match_wins() -> None:
    assert (
        table(route("one", ("", "/{x}")), route("two", ("", "/a"))).match(b"GET", b"/a").route.name == "one"
    )


def test_every_rule_must_match_and_the_first_names_the_model() -> None:
    routes = table(
        route("both", ("", "/{model}/x/*"), ("POST", "/a/{other}/{version}")),
        route("named", ("", "/{model}/*"), ("", "/{other}/{model}")),
        REST,
    )
    assert seen(routes.match(b"POST", b"/a/x/9")) == ("both", "a", "9")
    assert seen(routes.match(b"GET", b"/a/x/9")) == ("rest", "", None)
    assert seen(routes.match(b"GET", b"/one/two")) == ("named", "one", None)


def test_a_final_star_takes_any_rest() -> None:
    routes = table(route("below", ("", "/a/*")), REST)
    names = [routes.match(b"GET", path).route.name for path in (b"/a/", b"/a/b/c", b"/a/\n", b"/a", b"/ab")]
    assert names == ["below", "below", "below", "rest", "rest"]


def test_literal_text_is_literal() -> None:
    routes = table(route("literal", ("", "/a.b+c(d)$")), REST)
    assert routes.match(b"GET", b"/a.b+c(d)$").route.name == "literal"
    assert routes.match(b"GET", b"/axb+c(d)$").route.name == "rest"


def test_no_route() -> None:
    routes = table(INFER)
    for _ in range(2):
        with pytest.raises(RouteNotFound, match="no route for GET /x"):
            routes.match(b"GET", b"/x?secret")


def test_a_table_shows_its_routes() -> None:
    assert table(INFER, REST).routes == (INFER, REST)
    assert repr(table(INFER).match(b"POST", b"/m/a/infer")) == "Match(route='infer', model='a', version=None)"


def test_answers_are_remembered() -> None:
    routes = table(INFER, REST)
    first = routes.match(b"POST", b"/m/a/infer")
    assert routes.match(b"POST", b"/m/a/infer?x") is first
    assert routes.match(b"GET", b"/m/a/infer") is not first


def remembered(routes: RouteTable) -> int:
    return sum(map(len, (*routes._young.values(), *routes._old.values())))


def test_random_paths_do_not_grow_the_memory() -> None:
    routes = table(INFER, REST)
    for index in range(5000):
        routes.match(b"GET", b"/%d" % index)
        routes.match(b"X-%d" % index, b"/")
    assert remembered(routes) <= 2 * 512
    assert len(routes._young) == 7


def test_long_paths_are_not_remembered() -> None:
    routes = table(REST)
    routes.match(b"GET", b"/" + b"a" * 511)
    assert remembered(routes) == 1
    routes.match(b"GET", b"/" + b"a" * 512)
    assert remembered(routes) == 1


def test_a_path_in_use_survives_random_ones() -> None:
    routes = table(INFER, REST)
    first = routes.match(b"POST", b"/m/a/infer")
    for index in range(5000):
        routes.match(b"POST", b"/%d" % index)
        if index % 500 == 0:
            assert routes.match(b"POST", b"/m/a/infer") is first
    for index in range(2000):
        routes.match(b"POST", b"/again/%d" % index)
    assert routes.match(b"POST", b"/m/a/infer") is not first
