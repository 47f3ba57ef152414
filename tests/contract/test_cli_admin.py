"""`hanlin keys | workspaces | usage | prices` against a running service: the same words as on its home."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hanlin.http.app import BASE
from hanlin.store.database import Store
from hanlin.testing import FakeEngine, Rule
from tests.accounts import in_store, made
from tests.cli import Done, hanlin
from tests.contract.test_admin_wire import NOON, row_of
from tests.contract.test_cli import hanlin as shell
from tests.faulty_server import Fault, faulty_server
from tests.service import Service, in_front_of

Command = Callable[..., Done]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with (
        FakeEngine([Rule(text="你好")]) as engine,
        Service(tmp_path_factory.mktemp("home"), config=in_front_of(engine, profile="vllm")) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def owner(service: Service) -> str:
    return made(service, role="owner")[0]


@pytest.fixture
def remote(service: Service, owner: str, tmp_path: Path) -> Command:
    """Run a command on the service over its admin API, from a machine that has no home."""

    def run(*arguments: str, **more: str) -> Done:
        elsewhere = tmp_path / "elsewhere"
        done = hanlin(elsewhere, *arguments, "--url", service.url, **{"HANLIN_ADMIN_KEY": owner, **more})
        assert not elsewhere.exists()
        return done

    return run


@pytest.fixture
def local(service: Service) -> Command:
    """Run a command on the home of the service, beside it."""
    return lambda *arguments, **more: hanlin(service.home, *arguments, **more)


def data(done: Done) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def alike(done: Done) -> tuple[int, str, str]:
    """Return what a command said, without what differs from one key to the next, and where else a name may be known."""

    def plain(text: str) -> str:
        text = re.sub(r"· names that a running service has learned .*: add --url\n", "", text)
        text = re.sub(r"\b(?:key|ws)-[0-9a-f]{16}\b|sk-\w{48}|…\w{4}\b|\bteam \d\d", "…", text)
        return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z|\d\d:\d\d:\d\d|\d\d:\d\d UTC|\b\w{4}\"", "…", text)

    return done.returncode, plain(done.stdout), plain(done.stderr)


def test_a_key_lives_the_same_life_in_both_ways(remote: Command, local: Command) -> None:
    """Made, listed, changed, rotated, revoked: every line and every field, whoever did it."""
    for form in ((), ("--json",)):
        lives = []
        for number, command in enumerate((remote, local)):
            workspace = data(command("workspaces", "create", "--name", f"team {number}{len(form)}", "--json"))
            options = ("--workspace", workspace["name"], "--rpm", "60", "--budget", "USD 2.50", "--model", "qwen3-*")
            key = data(command("keys", "create", "--name", "ci", *options, "--expires", "2099-12-31", "--json"))
            steps = [
                command("keys", "create", "--name", "other", "--role", "viewer", "--surface", "chat", *form),
                command(
                    "keys", "change", key["id"], "--rpm", "none", "--budget", "5", "--address", "10.0.0.0/8", *form
                ),
                command("keys", "rotate", key["id"], "--overlap", "2h", *form),
                command("keys", "revoke", key["id"], *form),
                command("keys", "revoke", "key-none", *form),
                command("keys", "create", "--model", "qwn3-max", *form),
                command("keys", "create", "--workspace", "nobody", *form),
                command("workspaces", "change", workspace["name"], "--tpm", "10", "--budget", "1", *form),
                command("workspaces", "create", "--name", "default", *form),
                command("usage", "--key", key["id"], *form),
                command("usage", "--workspace", "nobody", *form),
                command("prices", "qwen-plus", *form),
                command("prices", "qwen-pluss", *form),
            ]
            lives.append([alike(step) for step in steps])
        for there, here in zip(*lives, strict=True):
            assert there == here


def test_one_json_object_has_the_new_key_and_its_id(remote: Command, service: Service) -> None:
    """For scripts, from anywhere."""
    key = data(remote("keys", "create", "--name", "script", "--json"))

    assert re.fullmatch(r"sk-\w{48}", key["key"])
    row = in_store(service, lambda store: store.keys.get(key["id"]))
    assert (row.name, row.role) == ("script", "")


def test_a_shell_elsewhere_needs_the_address_and_the_key(service: Service, owner: str, tmp_path: Path) -> None:
    """As a real process, with nothing of a home."""
    done = shell(tmp_path / "none", "keys", "create", "--json", "--url", service.url, HANLIN_ADMIN_KEY=owner)

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["key"].startswith("sk-")
    assert not (tmp_path / "none").exists()


def test_both_lists_are_one_list(remote: Command, local: Command) -> None:
    """The same rows, to the character."""
    assert data(remote("keys", "list", "--json")) == data(local("keys", "list", "--json"))
    assert data(remote("workspaces", "list", "--json")) == data(local("workspaces", "list", "--json"))
    assert remote("keys", "list", COLUMNS="100").stdout == local("keys", "list", COLUMNS="100").stdout
    assert remote("keys", "list", "--csv").stdout == local("keys", "list", "--csv").stdout
    assert remote("workspaces", "list", "--csv").stdout == local("workspaces", "list", "--csv").stdout
    assert remote("prices").stdout == local("prices").stdout


def test_usage_and_calls_are_the_same_in_every_form(service: Service, remote: Command, local: Command) -> None:
    """Totals, bars, lists, pages, exports of more than a page."""
    _, key = made(service)
    rows = [
        row_of(f"call-{number}", key_id=key.id, began_at=NOON + timedelta(minutes=number)) for number in range(1200)
    ]

    async def fill(store: Store) -> None:
        await store.ledger.append(rows)

    in_store(service, fill)
    for options in (
        ("--by", "day", "--by", "key"),
        ("--by", "workspace", "--json", "--since", "2026-11-20"),
        ("--csv", "--model", "of-the-usage-test"),
        ("--calls", "30"),
        ("--calls", "30", "--json"),
        ("--calls", "30", "--csv", "--until", "2026-11-21"),
        ("--calls", "--all", "--csv"),
        ("--calls", "--all", "--json"),
    ):
        there, here = (command("usage", *options, "--key", key.id, COLUMNS="120") for command in (remote, local))
        assert (there.returncode, there.stdout) == (here.returncode, here.stdout) != (0, "")
    exported = csv.DictReader(io.StringIO(remote("usage", "--calls", "--all", "--csv", "--key", key.id).stdout))
    assert [row["id"] for row in exported] == [row.id for row in reversed(rows)]
    page = data(remote("usage", "--calls", "2", "--key", key.id, "--json"))
    older = data(remote("usage", "--calls", "1", "--key", key.id, "--before", page["next"], "--json"))
    assert older["calls"][0]["id"] == "call-1197"


def test_the_home_may_end_the_last_owner_and_the_service_may_not(remote: Command, local: Command) -> None:
    """Whoever has the machine can always make another."""
    owners = [row["id"] for row in data(local("keys", "list", "--json")) if row["role"] == "owner"]
    last = owners[0]
    for other in owners[1:]:
        assert local("keys", "revoke", other).returncode == 0

    refused = remote("keys", "revoke", last)
    lowered = remote("keys", "change", last, "--role", "none")

    assert (refused.returncode, lowered.returncode) == (1, 1)
    assert "last owner" in refused.stderr
    assert local("keys", "change", last, "--name", "still here").returncode == 0
    assert local("keys", "change", last, "--role", "none").returncode == 0
    assert local("keys", "change", last, "--role", "owner").returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [("keys", "list"), ("keys", "create"), ("workspaces", "list"), ("usage",), ("usage", "--calls"), ("prices",)],
)
def test_a_key_that_may_not_is_told_so(service: Service, remote: Command, arguments: tuple[str, ...]) -> None:
    """With what to do about it."""
    plain, _ = made(service)

    powerless = remote(*arguments, HANLIN_ADMIN_KEY=plain)
    unknown = remote(*arguments, HANLIN_ADMIN_KEY="sk-nobodys-key")

    assert (powerless.returncode, powerless.stdout, unknown.returncode, unknown.stdout) == (1, "", 1, "")
    assert "needs the role" in powerless.stderr
    assert "--admin-key or HANLIN_ADMIN_KEY" in unknown.stderr


def test_the_key_can_be_given_as_an_option_and_the_address_as_it_is_copied(
    service: Service, owner: str, tmp_path: Path
) -> None:
    """The banner shows the base URL of programs."""
    for url in (service.url, f"{service.url}/", service.url + BASE, f"{service.url}/admin/v1/"):
        done = hanlin(tmp_path, "workspaces", "list", "--json", "--url", url, "--admin-key", owner)
        assert data(done)[0]["id"] == "default"


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        (("--url", "http://127.0.0.1:9"), {}, 2, "export HANLIN_ADMIN_KEY"),
        (("--url", "http://127.0.0.1:9"), {"HANLIN_ADMIN_KEY": "sk-x"}, 1, "nobody answers"),
        (("--url", "127.0.0.1:9"), {"HANLIN_ADMIN_KEY": "sk-x"}, 1, "is not an address"),
        (("--url", "http://127.0.0.1:9", "--home", "/tmp/x"), {"HANLIN_ADMIN_KEY": "sk-x"}, 2, "one of them"),
        (("--url", "http://127.0.0.1:9"), {"HANLIN_ADMIN_KEY": "sk-密"}, 2, "printable ASCII"),
    ],
)
def test_an_address_or_a_key_that_cannot_be_is_refused(
    arguments: tuple[str, ...], environment: dict[str, str], code: int, words: str, tmp_path: Path
) -> None:
    """With what to do."""
    done = hanlin(tmp_path, "keys", "list", *arguments, **environment)

    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr


def test_a_server_that_is_no_hanlin_is_named(tmp_path: Path) -> None:
    """Some other program may listen there; its answer is not taken for ours."""
    with faulty_server() as server:
        server.serve("/admin/v1/workspaces?limit=1000", b"{}")
        done = hanlin(tmp_path, "keys", "list", "--url", server.url, HANLIN_ADMIN_KEY="sk-x")
        strange = hanlin(tmp_path, "workspaces", "list", "--url", server.url, HANLIN_ADMIN_KEY="sk-x")

    assert (done.returncode, strange.returncode) == (1, 1)
    assert "does not answer as Hanlin's admin API does" in done.stderr
    assert "does not answer as Hanlin's admin API does" in strange.stderr


def test_the_key_is_sent_nowhere_else(tmp_path: Path) -> None:
    """Not to whom a redirection names."""
    with faulty_server() as elsewhere, faulty_server() as server:
        server.serve("/admin/v1/keys?limit=1000", b"", always=Fault(redirect=f"{elsewhere.url}/stolen"))
        done = hanlin(tmp_path, "keys", "list", "--url", server.url, HANLIN_ADMIN_KEY="sk-x")

    assert done.returncode == 1
    assert "HTTP 302" in done.stderr
    assert not elsewhere.requests
