"""The admin API of a running service: every route with every role, what it takes, what it refuses, what it tells."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import jsonschema_rs
import pytest
from openai import APIStatusError

from hanlin.http.admin.description import described
from hanlin.http.admin.routes import DESCRIPTION, ROUTES
from hanlin.metering.prices import PriceList
from hanlin.service.administration.operations import OPERATIONS, PREFIX, Operation
from hanlin.store.database import Store
from hanlin.store.rows import ROLES, Content, KeyRow, LedgerRow, Limits, Role
from hanlin.testing import FakeEngine, Rule, wait_until
from hanlin.types import Usage
from tests.accounts import ask, in_store, made
from tests.service import KEY, Service, in_front_of

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HEX = re.compile(r"\b[0-9a-f]{64}\b")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with (
        FakeEngine([Rule(text="你好")]) as engine,
        Service(tmp_path_factory.mktemp("home"), config=in_front_of(engine, profile="vllm")) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def keys(service: Service) -> Mapping[Role, str]:
    """A key of each role."""
    return {role: made(service, role=role)[0] for role in ROLES}


class Api:
    """The admin API with one key."""

    def __init__(self, service: Service, key: str) -> None:
        self._service = service
        self._headers = {"authorization": f"Bearer {key}"} if key else {}

    def call(self, method: str, path: str, **more: Any) -> httpx2.Response:
        headers = {**self._headers, **more.pop("headers", {})}
        return httpx2.request(method, self._service.url + PREFIX + path, headers=headers, timeout=30, **more)

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self.call("GET", path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, **fields: Any) -> Any:
        answer = self.call("POST", path, json=fields)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def patch(self, path: str, **fields: Any) -> Any:
        answer = self.call("PATCH", path, json=fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, method: str, path: str, **more: Any) -> tuple[int, dict[str, Any]]:
        """Return the status and the error of a call that is refused."""
        answer = self.call(method, path, **more)
        body = answer.json()
        assert set(body) == {"error", "request_id"}
        assert set(body["error"]) == {"message", "type", "param", "code"}
        assert body["request_id"] == answer.headers["x-request-id"]
        return answer.status_code, body["error"]


@pytest.fixture
def owner(service: Service, keys: Mapping[Role, str]) -> Api:
    return Api(service, keys["owner"])


@pytest.fixture
def admin(service: Service, keys: Mapping[Role, str]) -> Api:
    return Api(service, keys["admin"])


# --- who may ---------------------------------------------------------------------------------------------------------


def example(service: Service, route: Operation) -> tuple[str, dict[str, Any] | None]:
    """Return a call of a route that is right: its path, and its body. One that has no example here has to get one."""
    _, key = made(service)
    bodies: dict[str, dict[str, Any]] = {
        "make_key": {"name": "made"},
        "change_key": {"name": "changed"},
        "rotate_key": {"overlap_s": 60},
        "make_workspace": {"name": key.id},
        "change_workspace": {"limits": {"rpm": 10**6}},
        "change_limits": {"pattern": "qwen-max", "limits": {"rpm": 10**6}},
        "remove_limits": {"pattern": "qwen-turbo"},
    }
    in_store(service, lambda store: store.limits.change("qwen-turbo", lambda _: Limits(rpm=10**6)))
    call = row_of(f"example-{key.id}", model="example", began_at=NOON - timedelta(days=900))
    in_store(service, lambda store: store.ledger.append([call]))
    subjects = {
        "{key}": key.id,
        "{workspace}": "default",
        "{version}": price_version(service),
        "{call}": call.id,
    }
    path = route.path
    for braces, subject in subjects.items():
        path = path.replace(braces, subject)
    assert route.body is None or route.name in bodies
    return path, bodies.get(route.name)


def price_version(service: Service) -> str:
    rows = in_store(service, lambda store: store.prices.all())
    return str(rows[-1].version)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
@pytest.mark.parametrize("role", ROLES, ids=lambda role: role or "none")
def test_every_route_lets_through_who_has_its_role_and_nobody_else(
    service: Service, keys: Mapping[Role, str], route: Operation, role: Role
) -> None:
    """A route without a check would let any caller's key in."""
    path, body = example(service, route)

    answer = Api(service, keys[role]).call(route.method, path, **({} if body is None else {"json": body}))

    if ROLES.index(role) >= ROLES.index(route.role):
        assert answer.status_code == route.status
        assert answer.headers["cache-control"] == "no-store"
    else:
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "access_denied"
        assert f"needs the role '{route.role}'" in answer.json()["error"]["message"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
@pytest.mark.parametrize("key", ["", "sk-nobodys-key-of-all"], ids=["none", "unknown"])
def test_every_route_refuses_who_is_not_known(service: Service, route: Operation, key: str) -> None:
    """Before anything else is looked at."""
    path, body = example(service, route)

    status, error = Api(service, key).refused(route.method, f"{path}?nonsense=1", json=body)

    assert (status, error["code"]) == (401, "invalid_api_key")


def test_the_first_key_of_a_home_administers_nothing(service: Service) -> None:
    """It stands in programs' settings; whoever reads those must not make keys."""
    status, error = Api(service, KEY).refused("GET", "/me")

    assert status == 403
    assert "--role viewer" in error["message"]


def test_a_key_of_one_address_administers_from_there_alone(service: Service) -> None:
    """What narrows a key narrows it here, too."""
    elsewhere, _ = made(service, role="owner", addresses=("10.1.2.0/24",))
    here, _ = made(service, role="owner", addresses=("127.0.0.0/8",))

    assert Api(service, elsewhere).refused("GET", "/me")[0] == 403
    assert Api(service, here).get("/me")["role"] == "owner"


def test_a_key_with_a_role_calls_models_as_well_unless_it_is_limited(
    service: Service, keys: Mapping[Role, str]
) -> None:
    """One key for one person; whoever wants two gives one of them no calls."""
    limited, _ = made(service, role="admin", surfaces=("embeddings",))

    assert ask(service, keys["viewer"]).choices
    with pytest.raises(Exception, match="may not call chat"):
        ask(service, limited)


def test_an_admin_makes_keys_but_none_with_a_role(service: Service, admin: Api) -> None:
    """Who could make owners would be one."""
    key = admin.post("/keys", name="plain")
    _, other = made(service, role="viewer")

    for method, path, body in (
        ("POST", "/keys", {"role": "viewer"}),
        ("PATCH", f"/keys/{key['id']}", {"role": "viewer"}),
        ("PATCH", f"/keys/{other.id}", {"name": "mine"}),
        ("POST", f"/keys/{other.id}/rotate", {}),
        ("POST", f"/keys/{other.id}/revoke", {}),
    ):
        status, error = admin.refused(method, path, json=body)
        assert (status, error["code"]) == (403, "access_denied"), path
        assert "Only an owner" in error["message"]

    assert in_store(service, lambda store: store.keys.get(other.id)) == other
    assert admin.get(f"/keys/{key['id']}")["role"] == ""


def test_nobody_locks_everyone_out(tmp_path: Path) -> None:
    """The last owner stays one; two owners cannot end each other; the home's own command may."""
    with FakeEngine() as engine, Service(tmp_path / "home", config=in_front_of(engine)) as service:
        key, row = made(service, role="owner")
        owner = Api(service, key)
        soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        short_key, short = made(service, role="owner", expires_at=datetime.now(UTC) + timedelta(hours=2))

        for method, path, body in (
            ("POST", f"/keys/{row.id}/revoke", {}),
            ("PATCH", f"/keys/{row.id}", {"role": "admin"}),
            ("PATCH", f"/keys/{row.id}", {"expires_at": soon}),
            ("PATCH", f"/keys/{row.id}", {"addresses": ["10.0.0.0/8"]}),
        ):
            status, error = Api(service, short_key).refused(method, path, json=body)
            assert status == 400
            assert "last owner" in error["message"]
        assert owner.patch(f"/keys/{row.id}", name="renamed")["name"] == "renamed"
        assert owner.post(f"/keys/{short.id}/revoke")["state"] == "revoked"
        other_key, other = made(service, role="owner")
        assert owner.post(f"/keys/{other.id}/revoke")["state"] == "revoked"
        wait_until(lambda: Api(service, other_key).call("GET", "/me").status_code == 401, "the end of a revoked key")
        new = owner.post(f"/keys/{row.id}/rotate", overlap_s=0)
        assert Api(service, new["key"]).get("/me")["role"] == "owner"
        in_store(service, lambda store: store.keys.revoke(new["id"], who="cli"))


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_is_made_shown_once_and_works(service: Service, admin: Api) -> None:
    """What it may is what was asked for, and calls with it are answered at once."""
    workspace = admin.post("/workspaces", name="of the made key", limits={"tpm": 10**9})
    asked = {
        "name": "ci",
        "workspace": "of the made key",
        "models": ["qwen-*", "qwen-*"],
        "surfaces": ["chat"],
        "addresses": ["127.0.0.1"],
        "limits": {"rpm": 60, "budget": {"nanos": 10**10, "period": "day"}},
        "expires_at": "2099-12-31T00:00:00+08:00",
    }

    key = admin.post("/keys", **asked)
    again = admin.get(f"/keys/{key['id']}")

    assert re.fullmatch(r"sk-\w{48}", key["key"])
    assert again == {name: value for name, value in key.items() if name != "key"}
    assert (again["workspace_id"], again["models"]) == (workspace["id"], ["qwen-*"])
    assert (again["addresses"], again["expires_at"]) == (["127.0.0.1/32"], "2099-12-30T16:00:00Z")
    assert again["limits"] == {
        "rpm": 60,
        "tpm": None,
        "concurrency": None,
        "budget": {"nanos": 10**10, "currency": "CNY", "period": "day"},
    }
    assert ask(service, key["key"]).choices
    assert Api(service, key["key"]).refused("GET", "/keys")[0] == 403


def test_a_change_counts_within_a_second_and_leaves_the_rest_alone(service: Service, admin: Api) -> None:
    """null takes a limit away, and what is left out stays; so it is with every part of a budget."""
    key = admin.post("/keys", limits={"rpm": 5, "tpm": 7, "budget": {"nanos": 3, "currency": "USD", "period": "day"}})

    first = admin.patch(f"/keys/{key['id']}", limits={"rpm": None, "budget": {"nanos": 4}}, models=["qwen-plus"])
    second = admin.patch(f"/keys/{key['id']}", limits={"budget": None}, models=[])

    assert first["limits"] == {
        "rpm": None,
        "tpm": 7,
        "concurrency": None,
        "budget": {"nanos": 4, "currency": "USD", "period": "day"},
    }
    assert first["models"] == ["qwen-plus"]
    assert (second["limits"]["budget"], second["models"], second["limits"]["tpm"]) == (None, [], 7)


def test_a_rotated_and_a_revoked_key(service: Service, admin: Api) -> None:
    """The old one goes on for the overlap; a revoked one is over."""
    key = admin.post("/keys", name="ci", limits={"rpm": 1000})

    new = admin.post(f"/keys/{key['id']}/rotate", overlap_s=3600)
    gone = admin.post(f"/keys/{new['id']}/revoke")
    again = admin.post(f"/keys/{new['id']}/revoke")

    assert (new["replaces_id"], new["limits"], new["replaced"]["id"]) == (key["id"], key["limits"], key["id"])
    until = datetime.fromisoformat(new["replaced"]["expires_at"])
    assert timedelta(minutes=58) < until - datetime.now(UTC) <= timedelta(hours=1)
    assert ask(service, key["key"]).choices
    assert (gone["state"], again["revoked_at"]) == ("revoked", gone["revoked_at"])
    with pytest.raises(Exception, match="Incorrect API key"):
        ask(service, new["key"])
    assert admin.refused("POST", f"/keys/{new['id']}/rotate")[0] == 400


def test_a_name_of_the_operators_own_can_be_allowed_and_has_no_list_price(tmp_path: Path) -> None:
    """It stands in the settings and not in the catalogue, and may come while the service runs."""
    with FakeEngine() as engine, Service(tmp_path / "home", config=in_front_of(engine)) as service:
        owner = Api(service, made(service, role="owner")[0])
        assert owner.refused("POST", "/keys", json={"models": ["our-own-*"]})[1]["param"] == "models"
        service.configure(in_front_of(engine, serves=["qwen-*", "our-own-model"]))
        service.hup()

        wait_until(
            lambda: owner.call("POST", "/keys", json={"models": ["our-own-*"]}).status_code == 201, "the new name"
        )

        assert "our-own-model" not in {price["name"] for price in owner.get("/prices")["prices"]}


BAD_KEYS: dict[str, tuple[Any, int, str | None, str]] = {
    "unknown field": ({"colour": "red"}, 400, "colour", "nothing of this name"),
    "unknown limit": ({"limits": {"rps": 1}}, 400, "limits.rps", "nothing of this name"),
    "negative": ({"limits": {"rpm": -1}}, 400, "limits.rpm", ">= 0"),
    "too much": ({"limits": {"tpm": 2**63}}, 400, "limits.tpm", "int"),
    "not a number": ({"limits": {"tpm": "many"}}, 400, "limits.tpm", "int"),
    "half a budget": ({"limits": {"budget": {"period": "day"}}}, 400, "limits.budget.nanos", "missing"),
    "currency": ({"limits": {"budget": {"nanos": 1, "currency": "yuan"}}}, 400, "limits.budget.currency", "A-Z"),
    "period": ({"limits": {"budget": {"nanos": 1, "period": "week"}}}, 400, "limits.budget.period", "week"),
    "role": ({"role": "root"}, 400, "role", "root"),
    "surface": ({"surfaces": ["chats"]}, 400, "surfaces[0]", "chats"),
    "address": ({"addresses": ["10.0.0.5/8"]}, 400, "addresses", "the network is 10.0.0.0/8"),
    "pattern": ({"models": ["qwn-plus"]}, 400, "models", "did you mean qwen-plus"),
    "no pattern": ({"models": [""]}, 400, "models[0]", "length"),
    "expired": ({"expires_at": "2020-01-01T00:00:00Z"}, 400, "expires_at", "later time"),
    "no zone": ({"expires_at": "2099-01-01T00:00:00"}, 400, "expires_at", "timezone"),
    "long name": ({"name": "x" * 201}, 400, "name", "length"),
    "zero byte": ({"name": "a\0b"}, 400, "name", "regex"),
    "workspace": ({"workspace": "nobody"}, 404, "workspace", "no workspace"),
    "a list": ([], 400, None, "object"),
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_a_key_that_cannot_be_is_refused_by_the_name_of_what_is_wrong(owner: Api, case: str) -> None:
    """What is not understood is never dropped: its sender believes in it."""
    body, status, param, words = BAD_KEYS[case]
    before = len(owner.get("/audit", limit=1000)["data"])

    told, error = owner.refused("POST", "/keys", json=body)

    assert (told, error["param"]) == (status, param)
    assert words in error["message"]
    assert len(owner.get("/audit", limit=1000)["data"]) == before


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "param"),
    [
        ("PATCH", "/keys/{key}", {"json": {}}, 400, None),
        ("PATCH", "/keys/{key}", {"json": {"revoked_at": None}}, 400, "revoked_at"),
        ("PATCH", "/keys/{key}", {"json": {"limits": {"budget": {"period": "day"}}}}, 400, "limits.budget.nanos"),
        ("PATCH", "/keys/key-none", {"json": {"name": "x"}}, 404, "key"),
        ("PATCH", "/workspaces/default", {"json": {"name": ""}}, 400, "name"),
        ("PATCH", "/workspaces/default", {"json": {"id": "ws-1"}}, 400, "id"),
        ("PATCH", "/workspaces/nobody", {"json": {"name": "x"}}, 404, "workspace"),
        ("POST", "/workspaces", {"json": {}}, 400, "name"),
        ("POST", "/workspaces", {"json": {"name": "default"}}, 400, "name"),
        ("POST", "/keys/{key}/rotate", {"json": {"overlap_s": -1}}, 400, "overlap_s"),
        ("POST", "/keys/{key}/rotate", {"json": {"overlap_s": 10**9}}, 400, "overlap_s"),
        ("POST", "/keys/{key}/revoke", {"json": {"why": "lost"}}, 400, "why"),
        ("POST", "/keys", {"content": b"{"}, 400, None),
        ("POST", "/keys", {"content": b'{"name": "\xff"}'}, 400, None),
        ("POST", "/keys", {"content": b'{"name": "%b"}' % (b"x" * 70_000)}, 400, None),
        ("GET", "/keys", {"params": {"limit": 0}}, 400, "limit"),
        ("GET", "/keys", {"params": {"limit": 1001}}, 400, "limit"),
        ("GET", "/keys", {"params": {"limit": "many"}}, 400, "limit"),
        ("GET", "/keys", {"params": {"colour": "red"}}, 400, "colour"),
        ("GET", "/keys", {"params": {"after": "!"}}, 400, "after"),
        ("GET", "/keys", {"params": {"after": "bm9uc2Vuc2U"}}, 400, "after"),
        ("GET", "/keys", {"params": [("limit", "1"), ("limit", "2")]}, 400, "limit"),
        ("GET", "/keys", {"params": {"workspace": "nobody"}}, 404, "workspace"),
        ("GET", "/me", {"params": {"x": "1"}}, 400, "x"),
        ("GET", "/calls", {"params": {"outcome": "lost"}}, 400, "outcome"),
        ("GET", "/calls", {"params": {"since": "yesterday"}}, 400, "since"),
        ("GET", "/calls", {"params": {"since": "2026-12-01T00:00:00Z", "until": "2026-11-01T00:00:00Z"}}, 400, "since"),
        ("GET", "/calls", {"params": {"key": "key-none"}}, 404, "key"),
        ("GET", "/calls", {"params": {"format": "xml"}}, 400, "format"),
        ("GET", "/prices", {"params": {"format": "csv"}}, 400, "format"),
        ("GET", "/usage", {"params": {"by": "colour"}}, 400, "by[0]"),
        ("GET", "/usage", {"params": {"workspace": "nobody"}}, 404, "workspace"),
        ("GET", "/audit", {"params": {"after": "x"}}, 400, "after"),
        ("GET", "/prices", {"params": {"name": "qwen-pluss"}}, 404, "name"),
        ("GET", "/prices/none", {}, 404, None),
        ("GET", "/calls/none", {}, 404, None),
        ("GET", "/limits", {"params": {"limit": 1}}, 400, "limit"),
        ("PATCH", "/limits", {"json": {"pattern": "qwen-max"}}, 400, "limits"),
        ("PATCH", "/limits", {"json": {"pattern": "", "limits": {"rpm": 1}}}, 400, "pattern"),
        ("PATCH", "/limits", {"json": {"pattern": "nobody-*", "limits": {"rpm": 1}}}, 400, "pattern"),
        ("PATCH", "/limits", {"json": {"pattern": "qwen-max", "limits": {"rpm": -1}}}, 400, "limits.rpm"),
        ("POST", "/limits/remove", {"json": {"pattern": "qwen-long*"}}, 404, None),
        ("GET", "/keys/", {}, 404, None),
        ("GET", "/keys/%00", {}, 404, None),
        ("GET", "/keys/a/b", {}, 404, None),
        ("GET", "/nonsense", {}, 404, None),
        ("DELETE", "/keys", {}, 405, None),
        ("PUT", "/keys/{key}", {"json": {}}, 405, None),
    ],
)
def test_what_makes_no_sense_is_refused(
    service: Service, owner: Api, method: str, path: str, more: dict[str, Any], status: int, param: str | None
) -> None:
    """With the name of what is wrong, in the envelope that programs know."""
    _, row = made(service)

    told, error = owner.refused(method, path.replace("{key}", row.id), **more)

    assert (told, error["param"]) == (status, param), error


def test_another_method_is_told_which_there_are(owner: Api) -> None:
    """RFC 9110 §15.5.6."""
    assert owner.call("DELETE", "/keys").headers["allow"] == "GET, POST"


def test_pages_of_keys_have_each_key_once_while_keys_are_made(service: Service, owner: Api) -> None:
    """The last page has what came meanwhile; nothing is passed over or told twice."""
    for number in range(15):
        owner.post("/keys", name=f"page {number}")
    before = {row.id for row in in_store(service, lambda store: store.keys.all())}
    seen: list[str] = []
    added: list[str] = []
    after = ""
    while after is not None:
        page = owner.get("/keys", limit=7, **({"after": after} if after else {}))
        seen += [row["id"] for row in page["data"]]
        after = page["next"]
        if after is not None and len(added) < 3:
            added.append(made(service)[1].id)

    assert len(added) >= 2
    assert len(seen) == len(set(seen))
    assert set(seen) == before | set(added)


def test_the_keys_of_one_workspace_are_listed(owner: Api) -> None:
    """By its id as by its name."""
    workspace = owner.post("/workspaces", name="listed alone")
    key = owner.post("/keys", workspace=workspace["id"])

    for word in (workspace["id"], "listed alone"):
        assert [row["id"] for row in owner.get("/keys", workspace=word)["data"]] == [key["id"]]


@pytest.mark.parametrize(
    ("path", "columns"),
    [
        ("/keys", "id,name,hint,created_at,workspace_id,role,models,surfaces,addresses,limits_rpm,"),
        ("/workspaces", "id,name,created_at,limits_rpm,limits_tpm,limits_concurrency,limits_budget,keeps_content"),
        ("/audit", "id,at,who,what,subject,before,after"),
    ],
)
def test_every_list_can_be_had_as_csv(owner: Api, path: str, columns: str) -> None:
    """The same rows in the same order, page by page; what has several parts has a column for each."""
    owner.post("/keys", name="=1+1", models=["qwen-*"], limits={"rpm": 60, "budget": {"nanos": 1}})
    owner.post("/workspaces", name=f"=of {path}")
    first = owner.call("GET", path, params={"format": "csv", "limit": 2})
    after = first.headers["x-hanlin-next"]

    whole = owner.call("GET", path, params={"format": "csv", "limit": 1000})
    second = owner.call("GET", path, params={"format": "csv", "limit": 2, "after": after})

    rows = list(csv.DictReader(io.StringIO(whole.text)))
    assert whole.text.startswith(columns)
    assert "x-hanlin-next" not in whole.headers
    assert [row["id"] for row in rows] == [str(row["id"]) for row in owner.get(path, limit=1000)["data"]]
    pages = [list(csv.DictReader(io.StringIO(page.text))) for page in (first, second)]
    if path != "/audit":
        assert pages[0] + pages[1] == rows[:4]
        assert any(row["name"].startswith("'=") for row in rows)
    if path == "/keys":
        made_row = next(row for row in rows if row["name"] == "'=1+1")
        assert (made_row["limits_rpm"], made_row["models"]) == ("60", '["qwen-*"]')
        assert json.loads(made_row["limits_budget"])["nanos"] == 1


def test_no_answer_log_or_file_has_a_keys_text_or_hash(service: Service, owner: Api) -> None:
    """It is shown when it is made, and never again, to nobody."""
    key = owner.post("/keys", name="secret")
    owner.patch(f"/keys/{key['id']}", name="more secret")
    new = owner.post(f"/keys/{key['id']}/rotate")
    owner.post(f"/keys/{new['id']}/revoke")
    token = httpx2.post(
        f"{service.url}/api/v1/tokens", headers={"authorization": f"Bearer {key['key']}"}, timeout=30
    ).json()["token"]
    ask(service, token)

    for mistaken in (key["key"], token):
        owner.refused("GET", f"/keys/{mistaken}")
        owner.refused("PATCH", f"/keys/{mistaken}/nonsense")

    told = [owner.call("GET", path, params={"limit": 1000}).text for path in ("/keys", "/audit", "/calls")]
    kept = [file.read_bytes() for file in service.home.rglob("*") if file.is_file()]

    for text in (key["key"], new["key"], token):
        assert not any(text in one for one in (*told, service.output()))
        assert not any(text.encode() in one for one in kept)
    assert not any(HEX.search(one) for one in told)


# --- workspaces ------------------------------------------------------------------------------------------------------


def test_a_workspace_is_made_changed_and_found_by_id_and_name(owner: Api) -> None:
    """Also one whose name has to be written as an address has it."""
    made_row = owner.post("/workspaces", name="研究/室 1", limits={"rpm": 600})

    changed = owner.patch("/workspaces/%E7%A0%94%E7%A9%B6%2F%E5%AE%A4%201", limits={"rpm": None, "concurrency": 3})
    kept = owner.patch(f"/workspaces/{made_row['id']}", keeps_content=True)

    assert made_row["limits"] == {"rpm": 600, "tpm": None, "concurrency": None, "budget": None}
    assert changed["limits"]["rpm"] is None
    assert (kept["limits"]["concurrency"], kept["keeps_content"], kept["name"]) == (3, True, "研究/室 1")
    assert owner.get(f"/workspaces/{made_row['id']}") == kept
    assert kept in owner.get("/workspaces", limit=1000)["data"]
    first = owner.get("/workspaces", limit=1)
    assert first["data"][0]["id"] == "default"
    assert owner.get("/workspaces", limit=1, after=first["next"])["data"] != first["data"]


# --- usage -----------------------------------------------------------------------------------------------------------


def row_of(call_id: str, **fields: Any) -> LedgerRow:
    usual: dict[str, Any] = {
        "began_at": NOON,
        "key_id": "key-1",
        "workspace_id": "default",
        "surface": "chat",
        "model": "of-the-usage-test",
        "deployment": "gpu-1",
        "usage": Usage(1000, 50, 400, 20),
        "cost_nanos": 900_000,
        "list_cost_nanos": 900_000,
    }
    return LedgerRow(id=call_id, **{**usual, **fields})


@pytest.fixture(scope="module")
def own(service: Service) -> KeyRow:
    """A key with calls of its own in the ledger."""
    _, key = made(service, workspace_id="default")
    rows = [
        row_of(f"usage-{number}", key_id=key.id, began_at=NOON + timedelta(hours=number), model="=evil", stream=True)
        for number in range(30)
    ]

    async def fill(store: Store) -> None:
        await store.ledger.append([*rows, row_of("usage-other")])

    in_store(service, fill)
    return key


def test_usage_is_added_up_by_every_dimension(owner: Api, own: KeyRow) -> None:
    """Names stand beside ids; sums are whole numbers and exact decimals."""
    parameters = [("by", word) for word in ("day", "key", "workspace", "model", "deployment", "surface")]
    told = owner.call("GET", "/usage", params=[*parameters, ("key", own.id)]).json()

    assert [row["day"] for row in told["rows"]] == ["2026-11-20", "2026-11-21"]
    assert [row["calls"] for row in told["rows"]] == [12, 18]
    first = told["rows"][0]
    assert (first["key_id"], first["key_name"], first["key_hint"]) == (own.id, "test", own.hint)
    assert (first["workspace_id"], first["workspace_name"]) == ("default", "default")
    assert (first["model"], first["deployment"], first["surface"]) == ("=evil", "gpu-1", "chat")
    assert (first["prompt_tokens"], first["cached_tokens"], first["cost"]) == (12_000, 4_800, "0.0108")
    assert [(row["calls"], row["cost_nanos"]) for row in told["total"]] == [(30, 27_000_000)]
    by_model = owner.get("/usage", since="2026-11-21T00:00:00Z", until="2026-11-22T08:00:00+08:00", key=own.id)
    assert [(row["model"], row["calls"], "day" in row) for row in by_model["rows"]] == [("=evil", 18, False)]
    assert owner.get("/usage", model="of-the-usage-test", outcome="failed")["rows"] == []


def test_usage_as_csv_has_the_same_columns_and_no_formulas(owner: Api, own: KeyRow) -> None:
    """A spreadsheet runs what begins with =."""
    answer = owner.call("GET", "/usage", params={"by": "model", "key": own.id, "format": "csv"})
    nothing = owner.call("GET", "/usage", params={"by": "key", "since": "2099-01-01T00:00:00Z", "format": "csv"})

    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert [(row["model"], row["calls"], row["cost"]) for row in rows] == [("'=evil", "30", "0.027")]
    assert list(rows[0]) == list(owner.get("/usage", key=own.id)["rows"][0])
    assert nothing.text.startswith("key_id,key_name,key_hint,calls,")


@pytest.mark.parametrize("form", ["json", "csv"])
def test_calls_are_listed_newest_first_page_by_page_while_calls_are_made(
    service: Service, owner: Api, own: KeyRow, form: str
) -> None:
    """The mark is a word that means nothing to its reader, and every call is told once."""
    seen: list[str] = []
    after = ""
    while after is not None:
        answer = owner.call(
            "GET", "/calls", params={"key": own.id, "limit": 7, "format": form, **({"after": after} if after else {})}
        )
        if form == "json":
            seen += [row["id"] for row in answer.json()["data"]]
            after = answer.json()["next"]
        else:
            seen += [row["id"] for row in csv.DictReader(io.StringIO(answer.text))]
            after = answer.headers.get("x-hanlin-next")  # type: ignore[assignment]
        newer = row_of(f"newer-{form}-{len(seen)}", key_id=own.id, began_at=NOON + timedelta(days=9), model="=evil")

        async def add(store: Store, newer: LedgerRow = newer) -> None:
            await store.ledger.append([newer])

        in_store(service, add)

    old = [call_id for call_id in seen if call_id.startswith("usage-")]
    assert old == [f"usage-{number}" for number in reversed(range(30))]
    assert len(seen) == len(set(seen))


def test_a_real_call_is_told_by_all_that_is_known_of_it(service: Service, owner: Api) -> None:
    """Within two seconds of its end, with its tokens, its times, its cost and the list that it was charged by."""
    key, row = made(service)
    call_id = ask(service, key).id.removeprefix("chatcmpl-")

    found: list[dict[str, Any]] = []
    while not found:
        found = owner.get("/calls", key=row.id)["data"]

    assert found[0]["id"] == call_id
    assert (found[0]["outcome"], found[0]["status"], found[0]["surface"]) == ("answered", 200, "chat")
    assert found[0]["price_version"] == owner.get("/prices", name="qwen-plus")["version"]
    assert found[0]["key_hint"] == row.hint


# --- prices and the audit log ----------------------------------------------------------------------------------------


def test_prices_are_those_of_now_and_every_list_that_was_used(service: Service, owner: Api) -> None:
    """A bill of last month can be worked out again."""
    now = owner.call("GET", "/prices", params=[("name", "qwen-plus"), ("name", "qwen3-max*")]).json()

    kept = owner.get(f"/prices/{now['version']}")

    assert now["per_tokens"] == 1_000_000
    assert now["prices"][0]["name"] == "qwen-plus"
    assert now["prices"][0]["tiers"][0]["input"] > 0
    assert all(price["name"] == "qwen-plus" or price["name"].startswith("qwen3-max") for price in now["prices"])
    assert len(owner.get("/prices")["prices"]) > 100
    assert PriceList.read(json.dumps(kept["list"])).version == now["version"]


def test_every_change_is_in_the_audit_log_by_the_key_that_made_it(
    service: Service, keys: Mapping[Role, str], owner: Api, admin: Api
) -> None:
    """Who, what, before, after; page by page while changes are made."""
    who = admin.get("/me")["id"]
    key = admin.post("/keys", name="audited")
    admin.patch(f"/keys/{key['id']}", limits={"rpm": 7})
    owner.post(f"/keys/{key['id']}/revoke")

    log: list[dict[str, Any]] = []
    after = ""
    while after is not None:
        page = owner.get("/audit", subject=key["id"], limit=2, **({"after": after} if after else {}))
        log += page["data"]
        after = page["next"]
        admin.post("/keys", name="meanwhile")

    assert [(row["who"], row["what"]) for row in log] == [
        (owner.get("/me")["id"], "keys.revoke"),
        (who, "keys.change"),
        (who, "keys.add"),
    ]
    assert (log[1]["before"]["limits"]["rpm"], log[1]["after"]["limits"]["rpm"]) == (None, 7)
    assert log[2]["before"] is None
    assert {row["who"] for row in owner.get("/audit", who=who, limit=1000)["data"]} == {who}


# --- the description -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def description(service: Service, keys: Mapping[Role, str]) -> dict[str, Any]:
    told: dict[str, Any] = Api(service, keys["viewer"]).get("/openapi.json")
    return told


def test_the_description_is_that_of_the_code_and_has_every_route(description: dict[str, Any]) -> None:
    """A route that is not described is one that nobody finds."""
    assert description == json.loads(json.dumps(described()))
    assert description["openapi"].startswith("3.1")
    found = {
        (path, method.upper(), told["operationId"])
        for path, methods in description["paths"].items()
        for method, told in methods.items()
    }
    assert found == {(PREFIX + route.path, route.method, route.name) for route in ROUTES}


def test_everything_that_is_described_is_said_in_words_and_every_reference_leads_somewhere(
    description: dict[str, Any],
) -> None:
    """Fields, parameters, bodies, answers: names alone explain nothing."""
    schemas = description["components"]["schemas"]
    for name, schema in schemas.items():
        assert schema["description"], name
        for field, inner in schema.get("properties", {}).items():
            assert inner.get("description"), f"{name}.{field}"
    for path, methods in description["paths"].items():
        for method, told in methods.items():
            assert told["summary"], path
            assert told["x-hanlin-role"] in ROLES[1:]
            assert all(one["description"] and one["schema"] for one in told["parameters"]), path
            in_path = [one["name"] for one in told["parameters"] if one["in"] == "path"]
            assert re.findall(r"{(\w+)}", path) == in_path
            assert all(answer["description"] for answer in told["responses"].values())
            assert ("requestBody" in told) <= (method != "get")
    for reference in re.findall(r'"\$ref": "#/components/schemas/([^"]+)"', json.dumps(description)):
        assert reference in schemas


def test_the_form_of_a_list_and_its_next_page_are_described(description: dict[str, Any]) -> None:
    """A program that reads CSV must find where it goes on."""
    for route in OPERATIONS:
        done = description["paths"][PREFIX + route.path][route.method.lower()]["responses"][str(route.status)]
        assert ("text/csv" in done["content"]) == bool(route.lists)
        assert ("x-hanlin-next" in done.get("headers", {})) == (route.lists == "data")


def test_every_schema_is_one(description: dict[str, Any]) -> None:
    """OpenAPI 3.1 takes JSON Schema as it is (draft 2020-12)."""
    for schema in description["components"]["schemas"].values():
        jsonschema_rs.meta.validate({**schema, "$schema": "https://json-schema.org/draft/2020-12/schema"})


@pytest.mark.parametrize("route", OPERATIONS, ids=lambda route: route.name)
def test_real_answers_fit_their_description(
    service: Service, owner: Api, own: KeyRow, description: dict[str, Any], route: Operation
) -> None:
    """And have no field that is not described."""
    path, body = example(service, route)
    told = description["paths"][PREFIX + route.path][route.method.lower()]
    schema = told["responses"][str(route.status)]["content"]["application/json"]["schema"]

    answer = owner.call(route.method, path, **({} if body is None else {"json": body})).json()

    jsonschema_rs.Draft202012Validator(
        {**schema, "components": description["components"]}, validate_formats=True
    ).validate(answer)
    reference = schema["$ref"].rpartition("/")[2]
    assert set(answer) <= set(description["components"]["schemas"][reference]["properties"])


def test_errors_fit_their_description(owner: Api, description: dict[str, Any]) -> None:
    """Every refusal has one form."""
    schema = {"$ref": "#/components/schemas/Error", "components": description["components"]}

    for path in ("/keys/key-none", "/keys?limit=0", "/nonsense"):
        jsonschema_rs.Draft202012Validator(schema).validate(owner.call("GET", path).json())


def test_the_description_describes_itself(owner: Api) -> None:
    """And is told as it is written."""
    assert owner.get(DESCRIPTION.path)["paths"][PREFIX + DESCRIPTION.path]["get"]["operationId"] == "openapi"


# --- limits of models, and what was said ------------------------------------------------------------------------------


def status(service: Service, key: str, model: str) -> int:
    try:
        ask(service, key, model=model)
    except APIStatusError as error:
        return error.status_code
    return 200


def test_limits_of_models_are_set_listed_and_removed(service: Service, owner: Api) -> None:
    """A pattern counts for each of its names; a call beyond it is refused within a second, and let in again after."""
    key, _ = made(service)
    set_row = owner.patch("/limits", pattern="qwen3-coder-*", limits={"rpm": 0})
    changed = owner.patch("/limits", pattern="qwen3-coder-*", limits={"tpm": 5})
    listed = {row["pattern"]: row for row in owner.get("/limits")["data"]}
    wait_until(lambda: status(service, key, "qwen3-coder-plus") == 429, "the limit counts")
    other = status(service, key, "qwen-plus")
    removed = owner.post("/limits/remove", pattern="qwen3-coder-*")

    assert "qwen3-coder-plus" in set_row["names"]
    assert set_row["limits"] == {"rpm": 0, "tpm": None, "concurrency": None, "budget": None}
    assert changed["limits"] == {"rpm": 0, "tpm": 5, "concurrency": None, "budget": None}
    assert listed["qwen3-coder-*"] == changed == removed
    assert other == 200
    wait_until(lambda: status(service, key, "qwen3-coder-plus") == 200, "the limit is gone")
    assert "qwen3-coder-*" not in {row["pattern"] for row in owner.get("/limits")["data"]}


def test_what_was_said_in_a_call_is_for_those_who_may_change_things(service: Service, keys: Mapping[Role, str]) -> None:
    """Where nothing was kept there is nothing to tell, and a viewer is told neither."""
    kept, other = row_of("said-1", model="said"), row_of("said-2", model="said")
    content = Content(
        call_id="said-1",
        began_at=kept.began_at,
        workspace_id="default",
        prompt='{"messages":[]}',
        answer='{"choices":[]}',
    )

    async def append(store: Store) -> None:
        await store.ledger.append([kept, other])
        await store.contents.append([content])

    in_store(service, append)
    owner = Api(service, keys["owner"])

    assert owner.get("/calls/said-1")["content"] == {"prompt": {"messages": []}, "answer": {"choices": []}}
    assert owner.get("/calls/said-2")["content"] is None
    assert Api(service, keys["viewer"]).refused("GET", "/calls/said-1")[0] == 403
