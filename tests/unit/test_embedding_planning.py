"""Calls for vectors: what answers which name, what is refused, what is listed."""

from typing import Any

import pytest

from hanlin.catalogue.models import Catalogue, Model, Vectors
from hanlin.catalogue.tasks import Tasks
from hanlin.engines.embedding import ServerEmbedder
from hanlin.errors import EngineUnavailable, InvalidRequest, ModelNotFound, ModelNotSupported
from hanlin.routing.capacity import Capacity
from hanlin.service.embedding_planning import (
    EmbeddingDeployment,
    EmbeddingPlan,
    EmbeddingServing,
    asked,
    serving,
)
from hanlin.settings import RouteRow
from hanlin.types import EmbeddingRequest, Served

FACTS: dict[str, Any] = {
    "owner": "qwen",
    "description": "One.",
    "suits": ("embeddings",),
    "grade": 3,
    "source": "https://example.org",
    "as_of": "2026-10",
}
V4 = Model(
    name="text-embedding-v4",
    family="embedding",
    endpoint="embeddings",
    max_input_tokens=8192,
    vectors=Vectors(dimensions=(1024, 256, 64), default=1024, texts=10),
    open_weights="Qwen/Qwen3-Embedding-8B",
    open_weights_match="closest",
    **FACTS,
)
CHAT = Model(name="qwen-plus", family="plus", endpoint="chat/completions", **FACTS)
CATALOGUE = Catalogue(
    models={V4.name: V4, CHAT.name: CHAT},
    by_name={V4.name: V4, CHAT.name: CHAT},
    groups={},
    families={},
    needs={},
    features={},
    owners={},
    tasks=Tasks({}, (), ()),
)


def deployment(name: str = "e5", **fields: Any) -> EmbeddingDeployment:
    basics: dict[str, Any] = {
        "name": name,
        "title": name,
        "fingerprint": f"{name}@0123456789ab",
        "engine": ServerEmbedder("http://127.0.0.1:1/v1"),
        "capacity": Capacity(1, 1),
        "embedded": True,
    }
    return EmbeddingDeployment(**(basics | fields))


def plan(request: EmbeddingRequest, *rest: Any, **more: Any) -> EmbeddingPlan:
    """Return what a call becomes on the first deployment of its name."""
    allowed = asked(request, *rest, **more)
    return allowed.planned(allowed.route.targets[0])


E5 = deployment(tells_apart=True, fits=True)


def request(*texts: str, **fields: Any) -> EmbeddingRequest:
    given = frozenset({"model", "input", *fields.pop("sent", ())})
    return EmbeddingRequest(**{"model": "text-embedding-v4", "texts": texts or ("你好",), "given": given, **fields})


@pytest.mark.parametrize(
    ("deployments", "served", "by"),
    [
        ([], Served.UNAVAILABLE, None),
        ([E5], Served.STAND_IN, "e5"),
        ([deployment("q", repository="Qwen/Qwen3-Embedding-8B")], Served.CLOSEST, "q"),
        ([E5, deployment("tei", embedded=False, serves=("text-embedding-*",))], Served.UPSTREAM, "tei"),
        ([E5, deployment("tei", embedded=False, serves=("qwen*",))], Served.STAND_IN, "e5"),
        ([E5, deployment("all", embedded=False, serves=("*",))], Served.UPSTREAM, "all"),
        # One chat model behind every name is no embedding model.
        ([E5, deployment("chat", embedded=False, serves=("*",), one_model=True)], Served.STAND_IN, "e5"),
        ([deployment("one", embedded=False, serves=("*", "text-*"), one_model=True)], Served.UPSTREAM, "one"),
    ],
)
def test_what_answers_a_name(deployments: list[EmbeddingDeployment], served: Served, by: str | None) -> None:
    """The operator's mapping counts first; nothing that runs here is ever called the name itself."""
    found = serving(V4, deployments)

    assert (found.served, found.deployment.name if found.deployment else None) == (served, by)
    assert bool(found.why) == (served is Served.UNAVAILABLE)


@pytest.mark.parametrize(("asked", "wanted"), [(None, 1024), (64, 64)])
def test_vectors_are_as_long_as_the_row_says(asked: int | None, wanted: int) -> None:
    """An index that was built for 1024 numbers takes no others."""
    found = plan(request(dimensions=asked), CATALOGUE, [E5])

    assert (found.dimensions, found.limit_tokens) == (wanted, 8192)
    assert (found.answering.served, found.answering.fingerprint) == (Served.STAND_IN, "e5@0123456789ab")


@pytest.mark.parametrize(
    ("asked", "message", "param"),
    [
        (
            request(*["a"] * 11),
            "Value error, batch size is invalid, it should not be larger than 10.",
            "input",
        ),
        (request("a", ""), "Range of input length should be [1, 8192]: text 1 of 'input' is empty", "input"),
        (
            request(dimensions=384),
            "'dimensions' should be one of [1024, 256, 64] for text-embedding-v4",
            "dimensions",
        ),
    ],
)
def test_what_the_row_forbids_is_refused(asked: EmbeddingRequest, message: str, param: str) -> None:
    """In the vendor's words where they are known."""
    with pytest.raises(InvalidRequest) as refused:
        plan(asked, CATALOGUE, [E5])

    assert (refused.value.message, refused.value.param) == (message, param)


def test_other_names_are_not_found_or_not_supported() -> None:
    """A chat model makes no vectors, whoever answers it."""
    with pytest.raises(ModelNotSupported, match="Unsupported model qwen-plus for OpenAI compatibility mode"):
        plan(request(model="qwen-plus"), CATALOGUE, [E5])
    with pytest.raises(ModelNotFound, match="The model `nope` does not exist"):
        plan(request(model="nope"), CATALOGUE, [E5])


def test_a_name_that_nothing_answers_is_not_found_unless_something_is_coming() -> None:
    """While the weights are fetched a caller is told to come back; SDKs do so by themselves."""
    with pytest.raises(ModelNotFound, match="embeddings = true"):
        plan(request(), CATALOGUE, [])
    with pytest.raises(EngineUnavailable, match="fetching e5, 34%"):
        plan(request(), CATALOGUE, [], coming="fetching e5, 34%")


@pytest.mark.parametrize(
    ("by", "listed"),
    [(E5, ("user",)), (deployment("tei", serves=("*",)), ("input_type", "text_type", "user"))],
)
def test_what_has_no_effect_is_listed(by: EmbeddingDeployment, listed: tuple[str, ...]) -> None:
    """The purpose of a text is told apart by some models only."""
    asked = request(sent=("user", "input_type", "text_type", "encoding_format", "dimensions"))

    assert plan(asked, CATALOGUE, [by]).answering.ignored == listed


# --- several deployments ---------------------------------------------------------------------------------------------


def server(name: str, there: str = "", **fields: Any) -> EmbeddingDeployment:
    """Return a server that calls every name `there`, or as the caller does."""
    more = {"embedded": False, "serves": ("text-embedding-*",), "there": (lambda _: there) if there else str}
    return deployment(name, **{**more, **fields})


def tiers(found: EmbeddingServing) -> list[tuple[str, int]]:
    return [(target.deployment.name, target.tier) for target in found.route.targets]


def test_servers_of_one_model_take_over_from_each_other_in_the_files_order() -> None:
    """Replicas share a tier; what calls the model otherwise makes other vectors, and is left out."""
    replicas = [server(f"tei-{number}", "bge-m3", runs="openai/bge-m3") for number in (1, 2)]

    found = serving(V4, [*replicas, server("rented"), server("late", "bge-m3"), E5])

    assert tiers(found) == [("tei-1", 0), ("tei-2", 0), ("late", 2)]


def test_a_route_says_who_makes_vectors_but_its_fallbacks_do_not() -> None:
    """A fallback is another model: right for an answer, wrong for an index."""
    route = RouteRow(names=("text-*",), deployments=("b", "embedded", "a"), fallbacks=("c", "embedded"))

    found = serving(V4, [server("a"), server("b"), server("c"), E5], routes=(route,))

    assert (found.served, tiers(found)) == (Served.UPSTREAM, [("b", 0), ("a", 2)])


def test_a_route_may_share_by_weights() -> None:
    """As for chat."""
    route = RouteRow(names=("text-embedding-v4",), deployments=("a", "b"), choose="weighted", weights=(3, 1))

    found = serving(V4, [server("a"), server("b")], routes=(route,))

    assert found.route.choose == "weighted"
    assert [(target.tier, target.weight) for target in found.route.targets] == [(0, 3), (0, 1)]


def test_a_route_to_the_embedded_weights_is_to_those_that_make_vectors() -> None:
    """Where nothing else is named."""
    route = RouteRow(names=("text-*",), deployments=("embedded",))

    found = serving(V4, [server("a"), E5], routes=(route,))

    assert (found.served, tiers(found)) == (Served.STAND_IN, [("e5", 0)])
