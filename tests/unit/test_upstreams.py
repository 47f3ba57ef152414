"""Upstreams: what their names mean, and how the settings and `--upstream` become deployments."""

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec
import pytest

from hanlin.catalogue import load
from hanlin.engines import tables
from hanlin.engines.profiles import profiles
from hanlin.engines.upstreams import Upstream, name_there, upstreams
from hanlin.errors import StartupError
from hanlin.service.neighbours import Contents
from hanlin.service.upstreams import (
    acquainted,
    discovered,
    fitted,
    from_flag,
    is_open,
    is_rented,
    names_there,
    resolved,
)
from hanlin.settings import DeploymentRow, RouteRow
from tests.faulty_server import Fault, FaultyServer, faulty_server

CATALOGUE = load()
ROWS = sorted(upstreams().items())
KEYS = {row.key_env[0]: "sk-x" for _, row in ROWS if row.key_env} | {"DASHSCOPE_WORKSPACE_ID": "ws-1"}
"""An environment in which every upstream has its key."""

each = pytest.mark.parametrize(("name", "row"), ROWS, ids=[name for name, _ in ROWS])


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        yield running


# --- the rows and the catalogue --------------------------------------------------------------------------------------


@each
def test_every_row_can_be_used_and_says_where_it_is_from(name: str, row: Upstream) -> None:
    """Its profile is there, its address is one, and whoever doubts it can look it up."""
    assert row.profile in profiles().engine
    assert row.url.startswith("https://" if row.rented else "http://127.0.0.1:")
    assert bool(row.key_env) == row.rented
    assert ("{workspace}" in row.url) == bool(row.workspace_env)
    assert row.source
    assert {field.partition(".")[0] for field in row.unconfirmed} <= set(Upstream.__struct_fields__)


@each
def test_every_name_that_a_row_serves_is_one_of_the_catalogues(name: str, row: Upstream) -> None:
    """A misspelt one would send calls for it to the stand-in without a word. OpenAI has names of its own alone."""
    if name == "openai":
        assert not set(row.serves) & set(CATALOGUE.by_name)
        return
    lost = [pattern for pattern in row.serves if not any(fnmatchcase(one, pattern) for one in CATALOGUE.by_name)]

    assert lost == []


@each
def test_every_name_that_a_row_translates_is_one_that_it_serves(name: str, row: Upstream) -> None:
    """And of the catalogue, or the translation is dead weight that hides a slip of the pen."""
    served = [one for one in CATALOGUE.by_name if any(fnmatchcase(one, pattern) for pattern in row.serves)]
    used = {pattern for pattern in row.names for one in served if name_there({pattern: row.names[pattern]}, one)}

    assert used == set(row.names)


@pytest.mark.parametrize("name", sorted(CATALOGUE.by_name))
def test_one_credential_of_model_studio_answers_for_every_name_of_the_catalogue(name: str) -> None:
    """Other makers' models and partners' ids go there as they are: they are its own names."""
    row = resolved(DeploymentRow("it", upstream="dashscope"), KEYS)

    assert any(fnmatchcase(name, pattern) for pattern in row.serves or ())
    assert names_there(row, name) == name


@pytest.mark.parametrize(
    ("upstream", "name", "there"),
    [
        ("dashscope", "kimi/kimi-k2.6", "kimi/kimi-k2.6"),
        ("dashscope-intl", "qwen-plus", "qwen-plus"),
        ("deepseek", "deepseek-v4-pro", "deepseek-v4-pro"),
        ("deepseek", "deepseek-v4.1-flash", "deepseek-flash"),
        ("moonshot", "kimi/kimi-k2.6", "kimi-k2.6"),
        ("moonshot-intl", "kimi-k3", "kimi-k3"),
        ("zhipu", "ZHIPU/GLM-5.1", "glm-5.1"),
        ("zai", "glm-5.3", "glm-5.3"),
        ("minimax", "MiniMax/MiniMax-M3", "MiniMax-M3"),
        ("minimax-intl", "MiniMax-M2.5", "MiniMax-M2.5"),
        ("siliconflow", "siliconflow/deepseek-v3.2", "deepseek-ai/DeepSeek-V3.2"),
        ("siliconflow", "kimi-k2.6", "Pro/moonshotai/Kimi-K2.6"),
        ("siliconflow-intl", "kimi-k2.6", "moonshotai/Kimi-K2.6"),
        ("openai", "gpt-5.6", "gpt-5.6"),
        ("openrouter", "deepseek-v4-pro", "deepseek/deepseek-v4-pro"),
        ("openrouter", "deepseek-v3", "deepseek/deepseek-chat"),
        ("openrouter", "kimi/kimi-k2.5", "moonshotai/kimi-k2.5"),
        ("openrouter", "ZHIPU/GLM-5", "z-ai/glm-5"),
        ("openrouter", "MiniMax/MiniMax-M3", "minimax/minimax-m3"),
        ("openrouter", "qwen3-8b", "qwen/qwen3-8b"),
        ("ollama", "qwen3-8b", "qwen3-8b"),
    ],
)
def test_names_are_said_as_they_are_there(upstream: str, name: str, there: str) -> None:
    """Prefixes come off or on, and makers spell their models as they like."""
    row = resolved(DeploymentRow("it", upstream=upstream), KEYS)

    assert names_there(row, name) == there


@pytest.mark.parametrize(
    ("names", "name", "there"),
    [
        ({"a": "x", "a*": "y*"}, "a", "x"),
        ({"a*": "y*", "*": "z/*"}, "ab", "yb"),
        ({"a*": "y*", "*": "z/*"}, "b", "z/b"),
        ({"a*c": "<*>"}, "abbc", "<bb>"),
        ({"ab*ba": "*"}, "aba", None),
        ({"a*": "one"}, "ab", "one"),
        ({}, "a", None),
    ],
)
def test_a_pattern_repeats_what_its_star_stood_for(names: Mapping[str, str], name: str, there: str | None) -> None:
    """Single names count before patterns, and those in their order."""
    assert name_there(names, name) == there


@pytest.mark.parametrize("rows", [{"a": {"like": "b"}, "b": {"like": "a"}}, {"a": {"like": "none"}}])
def test_tables_that_build_on_each_other_in_a_circle_or_on_nothing_are_found(rows: dict[str, dict[str, Any]]) -> None:
    """It is a mistake in a packaged file, and is found by the first test that reads it."""
    with pytest.raises(KeyError):
        tables.built(rows)


def test_a_table_keeps_what_it_says_itself_and_takes_the_rest() -> None:
    """Tables within tables are joined, lists are not."""
    rows: dict[str, Any] = {
        "base": {"a": 1, "b": {"x": 1, "y": 1}, "c": [1]},
        "own": {"like": "base", "b": {"y": 2}, "c": [2]},
    }

    assert tables.built(rows)["own"] == {"a": 1, "b": {"x": 1, "y": 2}, "c": [2]}


# --- rows of the settings --------------------------------------------------------------------------------------------


@each
def test_a_row_that_names_only_its_upstream_becomes_complete(name: str, row: Upstream) -> None:
    """Two lines in the file are enough."""
    made = resolved(DeploymentRow("it", upstream=name), KEYS)

    assert made.url == row.url.replace("{workspace}", "ws-1")
    assert (made.profile, made.serves, made.names) == (row.profile, row.serves, row.names)
    assert made.key_env in (row.key_env or ("",))
    assert is_rented(made) is row.rented
    assert resolved(made, KEYS) == made


def test_what_a_row_says_itself_wins() -> None:
    """The upstream's row is a default, not a rule."""
    own = DeploymentRow(
        "it",
        upstream="moonshot",
        url="https://api.moonshot.cn/v2",
        serves=("kimi-k2.6",),
        names={"kimi-k2.6": "kimi-latest"},
        key_env="MY_KEY",
        profile="openai",
    )

    made = resolved(own, {"MOONSHOT_API_KEY": "sk-x"})

    assert msgspec.structs.replace(made, names=own.names) == own
    assert made.names == {"kimi-k2.6": "kimi-latest", "kimi/*": "*"}


def test_one_model_for_every_name_is_not_hidden_by_the_upstreams_table() -> None:
    """`model` says what runs; the table would send some names elsewhere."""
    row = DeploymentRow("it", upstream="openrouter", model="z-ai/glm-5.2", names={"qwen-plus": "qwen/qwen-plus"})

    made = resolved(row, KEYS)

    assert [names_there(made, name) for name in ("kimi-k3", "qwen-plus")] == ["z-ai/glm-5.2", "qwen/qwen-plus"]


@pytest.mark.parametrize(
    ("row", "profile"),
    [
        (DeploymentRow("it", url="http://gpu/v1"), "openai"),
        (DeploymentRow("it", url="http://gpu/v1", profile="vllm"), "vllm"),
        (DeploymentRow("it", engine="sglang", weights="Qwen/Qwen3-8B"), "sglang"),
    ],
)
def test_a_row_without_an_upstream_is_spoken_to_as_it_says(row: DeploymentRow, profile: str) -> None:
    """Or as the engine that Hanlin starts, or as plain OpenAI chat."""
    assert resolved(row, {}) == msgspec.structs.replace(row, profile=profile)
    assert not is_rented(row)


def test_the_first_variable_with_a_key_counts() -> None:
    """The vendor's key may stand beside one of this service's own."""
    row = DeploymentRow("it", upstream="dashscope")

    assert resolved(row, {"DASHSCOPE_API_KEY": "a", "BAILIAN_API_KEY": "b"}).key_env == "DASHSCOPE_API_KEY"
    assert resolved(row, {"DASHSCOPE_API_KEY": "a", "DASHSCOPE_UPSTREAM_KEY": "b"}).key_env == "DASHSCOPE_UPSTREAM_KEY"


@pytest.mark.parametrize(
    "url", ["https://proxy.example/v1", "http://api.deepseek.com/v1", "https://api.deepseek.com.evil/v1"]
)
def test_a_key_goes_to_its_upstreams_own_address_alone(url: str) -> None:
    """A slip in an address must not hand a key to a stranger, nor send it in the clear."""
    row = DeploymentRow("it", upstream="deepseek", url=url)

    assert resolved(row, KEYS).key_env == ""
    assert resolved(msgspec.structs.replace(row, key_env="DEEPSEEK_API_KEY"), KEYS).key_env == "DEEPSEEK_API_KEY"


@each
def test_a_missing_key_is_named_with_what_to_do(name: str, row: Upstream) -> None:
    """At the start, and not by the first caller's failure."""
    if not row.rented:
        assert resolved(DeploymentRow("it", upstream=name), {}).key_env == ""
        return
    with pytest.raises(StartupError) as problem:
        resolved(DeploymentRow("it", upstream=name), {"DASHSCOPE_WORKSPACE_ID": "ws-1"})

    assert str(problem.value).startswith(f"[[deployment]] 'it': {row.title} needs a key. `export {row.key_env[0]}=…`")
    assert all(variable in str(problem.value) for variable in row.key_env)


@pytest.mark.parametrize("workspace", ["", "evil.example/", "a.b", "a@b", "-a", "a" * 64])
def test_a_workspace_that_could_not_be_one_stops_the_start(workspace: str) -> None:
    """It becomes a part of the host that the key is sent to."""
    environment = {"DASHSCOPE_API_KEY": "sk-x", "DASHSCOPE_WORKSPACE_ID": workspace}

    with pytest.raises(StartupError, match="DASHSCOPE_WORKSPACE_ID holds no workspace id"):
        resolved(DeploymentRow("it", upstream="dashscope-eu-central-1"), environment)


# --- --upstream ------------------------------------------------------------------------------------------------------


def test_a_known_upstream_becomes_a_deployment_and_a_route_that_falls_back_on_our_weights() -> None:
    """One flag is a whole setup."""
    rows, routes = from_flag(["deepseek", "ollama"], KEYS)

    assert rows == [DeploymentRow("deepseek", upstream="deepseek"), DeploymentRow("ollama", upstream="ollama")]
    assert routes == [
        RouteRow(upstreams()["deepseek"].serves, ("deepseek",), fallbacks=("embedded",)),
        RouteRow(("*",), ("ollama",), fallbacks=("embedded",)),
    ]


@pytest.mark.parametrize(
    ("url", "environment", "row"),
    [
        ("http://127.0.0.1:8000/v1/", {}, DeploymentRow("127-0-0-1-8000", "http://127.0.0.1:8000/v1")),
        (
            "https://LLM.example.org/v1",
            {"UPSTREAM_API_KEY": "k"},
            DeploymentRow("llm-example-org", "https://LLM.example.org/v1", key_env="UPSTREAM_API_KEY"),
        ),
        (
            "https://api.deepseek.com/v1",
            {"UPSTREAM_API_KEY": "k"},
            DeploymentRow("deepseek", "https://api.deepseek.com/v1", upstream="deepseek"),
        ),
        (
            "https://ws-9.cn-beijing.maas.aliyuncs.com/compatible-mode/v1",
            {},
            DeploymentRow(
                "dashscope-cn-beijing",
                "https://ws-9.cn-beijing.maas.aliyuncs.com/compatible-mode/v1",
                upstream="dashscope-cn-beijing",
            ),
        ),
        ("http://api.deepseek.com/v1", {}, DeploymentRow("api-deepseek-com", "http://api.deepseek.com/v1")),
    ],
)
def test_a_url_becomes_a_deployment(url: str, environment: Mapping[str, str], row: DeploymentRow) -> None:
    """At a known upstream's address it is that upstream; anywhere else only the key that is meant for it is used."""
    rows, routes = from_flag([url], environment)

    assert rows == [row]
    assert routes[0].names == (upstreams()[row.upstream].serves if row.upstream else ("*",))


def test_the_same_upstream_twice_is_one_and_two_of_a_name_are_told_apart() -> None:
    """Two deployments of one name would stop the start."""
    rows, routes = from_flag(["deepseek", "deepseek", "https://api.deepseek.com/v1"], KEYS)

    assert [row.name for row in rows] == ["deepseek", "deepseek-2"]
    assert [route.deployments for route in routes] == [("deepseek",), ("deepseek-2",)]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deepsek", "--upstream deepsek: 'deepsek' is no known upstream. Did you mean 'deepseek'? Known: dashscope, "),
        ("xyzzy", "--upstream xyzzy: 'xyzzy' is no known upstream. Known: dashscope, "),
        ("ftp://host/v1", "--upstream ftp://host/v1: is no address. Write http://host:port/v1, or one of: dashscope"),
        ("http://", "--upstream http:: "),
    ],
)
def test_what_is_no_upstream_stops_the_start_with_the_known_ones(name: str, words: str) -> None:
    """With the nearest, since most are slips of the pen."""
    with pytest.raises(StartupError) as problem:
        from_flag([name], {})

    assert str(problem.value).startswith(words)


def test_without_the_flag_there_is_nothing() -> None:
    assert from_flag((), {}) == ([], [])


# --- asking a server what it has -------------------------------------------------------------------------------------

LISTED = {"object": "list", "data": [{"id": "qwen3-8b", "max_model_len": 40960}, {"id": "x"}]}


async def test_a_server_says_what_it_has(server: FaultyServer) -> None:
    """In OpenAI's form, which all of them know."""
    server.serve("/v1/models", json.dumps(LISTED).encode())

    assert await discovered(f"{server.url}/v1/", "sk-x") == Contents(("qwen3-8b", "x"), 40960)
    assert server.requests[-1].headers["authorization"] == "Bearer sk-x"


@pytest.mark.parametrize(
    ("body", "fault"),
    [(b"<html>", None), (b"{}", None), (b"{}", Fault(status=401)), (b"x" * 10, Fault(stall_after=0))],
)
async def test_a_server_that_does_not_say_what_it_has_is_no_error(
    server: FaultyServer, body: bytes, fault: Fault | None
) -> None:
    """It may be starting, or have no such list; the start goes on."""
    server.serve("/v1/models", body, always=fault)

    assert await discovered(f"{server.url}/v1", patience_s=0.3) is None


@pytest.mark.parametrize(
    ("contents", "row"),
    [
        (Contents(("Qwen/Qwen3-8B",), 40960), {"model": "Qwen/Qwen3-8B", "serves": ("*",), "context_tokens": 40960}),
        (Contents(("qwen3-8b", "x", "glm-5.2")), {"serves": ("qwen3-8b", "x", "glm-5.2")}),
        (Contents(("x", "y")), {"serves": ("x", "y")}),
        (Contents(()), {"serves": ("*",)}),
    ],
)
def test_a_row_is_fitted_to_what_its_server_has(contents: Contents, row: dict[str, Any]) -> None:
    """One model answers everything; of several, callers get those whose names they know."""
    before = DeploymentRow("it", "http://gpu/v1", serves=("*",))

    assert fitted(before, contents) == msgspec.structs.replace(before, **row)


@pytest.mark.parametrize(
    ("row", "open_"),
    [
        (DeploymentRow("it", "http://gpu/v1"), True),
        (DeploymentRow("it", "http://gpu/v1", upstream="vllm", serves=("*",)), True),
        (DeploymentRow("it", "http://gpu/v1", model="m"), False),
        (DeploymentRow("it", "http://gpu/v1", serves=("qwen-plus",)), False),
        (DeploymentRow("it", "http://gpu/v1", names={"qwen-plus": "m"}), False),
        (DeploymentRow("it", "https://x/v1", upstream="dashscope", serves=("*",)), False),
        (DeploymentRow("it", engine="vllm"), False),
    ],
)
def test_only_servers_of_which_nothing_is_known_are_asked(row: DeploymentRow, open_: bool) -> None:
    """What the operator or a row says already needs no question."""
    assert is_open(row) is open_


async def test_rows_and_routes_follow_what_the_servers_say(server: FaultyServer) -> None:
    """A route for names that the server does not have would hide whoever has them."""
    server.serve("/v1/models", json.dumps(LISTED).encode())
    silent = DeploymentRow("silent", "http://127.0.0.1:9/v1", profile="openai")
    rows, routes = from_flag([f"{server.url}/v1", "deepseek"], KEYS)
    rows = [*(resolved(row, KEYS) for row in rows), silent]

    found, followed, told = await acquainted(rows, routes, KEYS)

    assert [row.serves for row in found] == [("qwen3-8b", "x"), upstreams()["deepseek"].serves, None]
    assert [route.names for route in followed] == [("qwen3-8b", "x"), upstreams()["deepseek"].serves]
    assert told == ["silent: http://127.0.0.1:9/v1/models does not say what it has; every name is passed on as it is"]
