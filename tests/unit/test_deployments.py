"""What answers which name: the operator's mapping, the same weights, a stand-in, or nothing, and what to do then.

Further down: in which order, with which weights, and who stands in for them.
"""

from typing import Any

import pytest

from hanlin.catalogue.models import Need
from hanlin.service.deployments import Deployment, Route, relation, remedy, serving
from hanlin.settings import RouteRow
from hanlin.testing import ScriptedEngine
from hanlin.types import Served
from tests.values import catalogue_of, deployment, model


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


def embedded(name: str = "embedded", repository: str = "Qwen/Qwen2.5-Coder-0.5B-Instruct") -> Deployment:
    return deployment(ScriptedEngine(), name=name, repository=repository)


def server(*serves: str, name: str = "server", **fields: Any) -> Deployment:
    return deployment(ScriptedEngine(), name=name, embedded=False, serves=serves, **fields)


WEIGHTS = {"open_weights": "Qwen/Qwen2.5-Coder-0.5B-Instruct"}
IMAGE = Need("image", "its callers send images", "其用户会发送图片")

TABLE: list[Any] = [
    # the model's row, the deployments, how it is served, and by which of them
    pytest.param({}, [embedded()], Served.STAND_IN, "embedded", id="an embedded model stands in for a text name"),
    pytest.param({}, [embedded("a"), embedded("b")], Served.STAND_IN, "a", id="the first embedded one stands in"),
    pytest.param(
        WEIGHTS | {"open_weights_match": "exact"},
        [embedded()],
        Served.EXACT,
        "embedded",
        id="its own weights are exact",
    ),
    pytest.param(
        WEIGHTS | {"open_weights_match": "closest"}, [embedded()], Served.CLOSEST, "embedded", id="near weights"
    ),
    pytest.param(WEIGHTS | {"open_weights_match": "base"}, [embedded()], Served.CLOSEST, "embedded", id="base weights"),
    pytest.param(WEIGHTS, [embedded()], Served.CLOSEST, "embedded", id="weights of unknown match are not exact"),
    pytest.param(
        WEIGHTS | {"open_weights_match": "exact"},
        [embedded("other", "Someone/Else"), embedded("same")],
        Served.EXACT,
        "same",
        id="the same weights go before an earlier stand-in",
    ),
    pytest.param(
        {"open_weights": None}, [embedded("unknown", "")], Served.STAND_IN, "unknown", id="no weights match no weights"
    ),
    pytest.param({}, [server("*"), embedded()], Served.UPSTREAM, "server", id="the operator's mapping goes first"),
    pytest.param(
        WEIGHTS | {"open_weights_match": "exact"},
        [embedded(), server("qwen-plus")],
        Served.UPSTREAM,
        "server",
        id="the mapping goes before the name's own weights",
    ),
    pytest.param({}, [server("qwen-*")], Served.UPSTREAM, "server", id="names may be patterns"),
    pytest.param({}, [server("qwen-max", "qwen-plus")], Served.UPSTREAM, "server", id="any of several names"),
    pytest.param(
        {"aliases": ("qwen-plus-latest",)},
        [server("*-latest")],
        Served.UPSTREAM,
        "server",
        id="an alias maps its model",
    ),
    pytest.param(
        {}, [server("*", name="one"), server("*", name="two")], Served.UPSTREAM, "one", id="the first mapping"
    ),
    pytest.param({}, [server("Qwen-*")], Served.UNAVAILABLE, None, id="names are case sensitive"),
    pytest.param({}, [server("qwen-max")], Served.UNAVAILABLE, None, id="a server stands in for nothing"),
    pytest.param({}, [], Served.UNAVAILABLE, None, id="no deployment"),
    pytest.param({"endpoint": "embeddings"}, [server("*")], Served.UNAVAILABLE, None, id="not a chat model"),
    pytest.param({"endpoint": None}, [embedded()], Served.UNAVAILABLE, None, id="no endpoint of ours"),
    pytest.param({"needs": ("image",)}, [embedded()], Served.UNAVAILABLE, None, id="its callers need more than text"),
]


@pytest.mark.parametrize(("row", "deployments", "served", "by"), TABLE)
def test_what_answers_a_name(
    row: dict[str, Any], deployments: list[Deployment], served: Served, by: str | None
) -> None:
    """The operator's word first, then the name's own weights, then a stand-in; `why` is said where nothing answers."""
    asked = model(**row)

    found = serving(asked, catalogue_of(asked, needs={"image": IMAGE}), deployments)

    assert (found.served, found.deployment.name if found.deployment else None) == (served, by)
    assert bool(found.why) == (served is Served.UNAVAILABLE)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"endpoint": "embeddings"}, "it is not a chat model"),
        ({"needs": ("image",)}, "its callers send images"),
        ({}, "no deployment serves this name"),
    ],
)
def test_what_is_unavailable_says_why(row: dict[str, Any], why: str) -> None:
    """The reason goes into the error, the list of models and the banner."""
    asked = model(**row)

    assert serving(asked, catalogue_of(asked, needs={"image": IMAGE}), []).why == why


def test_the_reason_is_in_the_users_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both languages are written where the sentence is used."""
    monkeypatch.setenv("HANLIN_LANG", "zh")
    asked = model(needs=("image",))

    assert serving(asked, catalogue_of(asked, needs={"image": IMAGE}), []).why == "其用户会发送图片"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (WEIGHTS, "hanlin pull qwen-plus"),
        (WEIGHTS | {"needs": ("image",)}, "hanlin models"),
        (WEIGHTS | {"thinking": "only"}, "hanlin pull qwen-plus"),
        (WEIGHTS | {"endpoint": "embeddings"}, "hanlin models"),
        ({}, "[[deployment]]"),
    ],
)
def test_the_remedy_is_a_command_that_would_help(row: dict[str, Any], words: str) -> None:
    """Pulling weights is advised only where they could answer afterwards."""
    assert words in remedy(model(**row))


# --- how it is related to the name -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "repository", "served"),
    [
        (WEIGHTS | {"open_weights_match": "exact"}, WEIGHTS["open_weights"], Served.EXACT),
        (WEIGHTS | {"open_weights_match": "closest"}, WEIGHTS["open_weights"], Served.CLOSEST),
        (WEIGHTS, WEIGHTS["open_weights"], Served.CLOSEST),
        (WEIGHTS | {"open_weights_match": "exact"}, "Someone/Else", Served.STAND_IN),
        ({}, "Someone/Else", Served.STAND_IN),
        (WEIGHTS, "", Served.UPSTREAM),
        ({}, "", Served.UPSTREAM),
    ],
)
def test_a_server_that_says_what_it_runs_is_judged_by_that(
    row: dict[str, Any], repository: str, served: Served
) -> None:
    """Who runs the published weights may say so; who says nothing is somebody else's service."""
    assert relation(model(**row), server("*", repository=repository)) is served


# --- tiers -----------------------------------------------------------------------------------------------------------


def route_to(deployments: list[Deployment], *routes: RouteRow, row: dict[str, Any] | None = None) -> Route[Deployment]:
    asked = model(**(row or {}))
    return serving(asked, catalogue_of(asked), deployments, routes).route


def tiers(route: Route[Deployment]) -> list[tuple[str, int]]:
    return [(target.deployment.name, target.tier) for target in route.targets]


def test_replicas_that_stand_together_share_a_tier() -> None:
    """The load is spread over them; what stands behind them is for when they fail."""
    replicas = [server("*", name=name, runs="vllm/qwen3") for name in ("gpu-1", "gpu-2")]

    route = route_to([*replicas, server("*", name="rented")])

    assert tiers(route) == [("gpu-1", 0), ("gpu-2", 0), ("rented", 1)]
    assert route.choose == "prefix"
    assert not any(target.fallback for target in route.targets)


def test_what_runs_is_unknown_is_nobodys_replica() -> None:
    """Two services with a model of the same name are in the operator's order."""
    assert tiers(route_to([server("*", name="one"), server("*", name="two")])) == [("one", 0), ("two", 1)]


def test_replicas_apart_keep_the_order_of_the_file() -> None:
    """Whoever puts another one between them means it."""
    rows = [("gpu-1", "a"), ("rented", ""), ("gpu-2", "a")]

    assert tiers(route_to([server("*", name=name, runs=runs) for name, runs in rows])) == [
        ("gpu-1", 0),
        ("rented", 1),
        ("gpu-2", 2),
    ]


def test_who_states_the_name_goes_before_who_serves_a_pattern() -> None:
    """By an alias as well; among equals the file's order counts."""
    deployments = [
        server("*", name="any"),
        server("qwen-plus", name="stated"),
        server("qwen-*", name="some"),
        server("qwen-max", "plus", name="by its alias"),
    ]

    route = route_to(deployments, row={"aliases": ("plus",)})

    assert [name for name, _ in tiers(route)] == ["stated", "by its alias", "any", "some"]


def test_only_those_that_serve_the_name_are_in_its_route() -> None:
    """The embedded weights are none of them: a mapping is the operator's word."""
    deployments = [server("qwen-max", name="other"), server("qwen-*", name="fits"), embedded()]

    assert tiers(route_to(deployments)) == [("fits", 0)]


# --- routes ----------------------------------------------------------------------------------------------------------

ONE, TWO, THREE = (server("*", name=name) for name in ("one", "two", "three"))
ALL = [ONE, TWO, THREE, embedded("small")]


def test_a_route_goes_before_what_deployments_serve() -> None:
    """It names the name; `serves` says what a server could do."""
    found = route_to(ALL, RouteRow(names=("qwen-*",), deployments=("two", "one")))

    assert (tiers(found), found.choose) == ([("two", 0), ("one", 1)], "listed")


def test_the_first_route_that_fits_counts() -> None:
    """Exceptions stand in front of the rule."""
    exception = RouteRow(names=("qwen-plus",), deployments=("one",))
    rule = RouteRow(names=("*",), deployments=("two",))

    assert tiers(route_to(ALL, exception, rule)) == [("one", 0)]
    assert tiers(route_to(ALL, exception, rule, row={"name": "qwen-max"})) == [("two", 0)]
    assert tiers(route_to(ALL, exception, row={"name": "x", "aliases": ("qwen-plus",)})) == [("one", 0)]


@pytest.mark.parametrize("choose", ["weighted", "least-load", "prefix"])
def test_where_load_or_luck_decides_all_are_equal(choose: Any) -> None:
    """Without weights everybody has the same."""
    found = route_to(ALL, RouteRow(names=("*",), deployments=("two", "one"), choose=choose))

    assert [(target.deployment.name, target.tier, target.weight) for target in found.targets] == [
        ("two", 0, 1.0),
        ("one", 0, 1.0),
    ]
    assert found.choose == choose


def test_weights_go_with_their_deployments() -> None:
    """In the order of the row, whatever the file's is; one of none is only asked when the others fail."""
    found = route_to(ALL, RouteRow(("*",), ("two", "one", "three"), choose="weighted", weights=(9, 1, 0)))

    assert [(target.deployment.name, target.weight) for target in found.targets] == [
        ("two", 9),
        ("one", 1),
        ("three", 0),
    ]


def test_fallbacks_come_last_and_are_called_by_their_name() -> None:
    """They answer with another model, so the caller is told."""
    found = route_to(ALL, RouteRow(("*",), ("two",), fallbacks=("three", "embedded"), choose="least-load"))

    assert [(target.deployment.name, target.fallback, target.served) for target in found.targets] == [
        ("two", False, Served.UPSTREAM),
        ("three", True, Served.UPSTREAM),
        ("small", True, Served.STAND_IN),
    ]
    own, *fallbacks = [target.tier for target in found.targets]
    assert own < fallbacks[0] < fallbacks[1]


@pytest.mark.parametrize(
    ("row", "name", "served"),
    [
        ({}, "small", Served.STAND_IN),
        (WEIGHTS | {"open_weights_match": "exact"}, "own", Served.EXACT),
    ],
    ids=["any", "its own weights"],
)
def test_embedded_means_the_weights_that_are_nearest_to_the_name(
    row: dict[str, Any], name: str, served: Served
) -> None:
    """As without a route: the name's own weights where they are here, otherwise those that stand in."""
    deployments = [embedded("small", "Someone/Else"), embedded("own")]
    route = RouteRow(names=("*",), deployments=("embedded",))

    [target] = route_to(deployments, route, row=row).targets

    assert (target.deployment.name, target.served) == (name, served)


def test_embedded_weights_that_are_still_to_come_are_left_out() -> None:
    """The server in front of them answers meanwhile."""
    route = RouteRow(names=("*",), deployments=("one",), fallbacks=("embedded",))

    assert tiers(route_to([ONE], route)) == [("one", 0)]


def test_a_route_of_embedded_weights_alone_waits_for_them() -> None:
    """Until they are here, whoever serves the name does: nothing else answers it."""
    route = RouteRow(names=("*",), deployments=("embedded",))

    assert tiers(route_to([server("qwen-max")], route)) == []
