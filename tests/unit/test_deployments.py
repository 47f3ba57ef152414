"""What answers which name: the operator's mapping, the same weights, a stand-in, or nothing, and what to do then."""

from typing import Any

import pytest

from hanlin.catalogue.models import Need
from hanlin.service.deployments import Deployment, remedy, serving
from hanlin.testing import ScriptedEngine
from hanlin.types import Served
from tests.values import catalogue_of, deployment, model


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


def embedded(name: str = "embedded", repository: str = "Qwen/Qwen2.5-Coder-0.5B-Instruct") -> Deployment:
    return deployment(ScriptedEngine(), name=name, repository=repository)


def server(*serves: str, name: str = "server") -> Deployment:
    return deployment(ScriptedEngine(), name=name, embedded=False, serves=serves)


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
