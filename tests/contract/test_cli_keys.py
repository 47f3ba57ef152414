"""`hanlin keys`, `hanlin workspaces` and `hanlin prices`, on a home that no service runs on, without processes."""

import asyncio
import csv
import io
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hanlin.catalogue import load
from hanlin.home import Home
from hanlin.metering.prices import PriceList
from hanlin.store.database import open_store
from hanlin.store.rows import AuditRow, Budget, KeyRow
from tests.cli import hanlin


def made(home: Path, *options: str) -> dict[str, Any]:
    """Make a key and return its row."""
    row: dict[str, Any] = asked(home, "keys", "create", *options)
    return row


def asked(home: Path, *arguments: str) -> Any:
    done = hanlin(home, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def stored(home: Path) -> tuple[KeyRow, ...]:
    async def read() -> tuple[KeyRow, ...]:
        async with await open_store(Home(home).database) as store:
            return await store.keys.all()

    return asyncio.run(read())


def changes(home: Path) -> Sequence[AuditRow]:
    async def read() -> Sequence[AuditRow]:
        async with await open_store(Home(home).database) as store:
            return await store.audit.page()

    return asyncio.run(read())


# Keys


def test_a_key_is_made_with_everything_that_narrows_it(tmp_path: Path) -> None:
    """One JSON object holds the key, its id, and what was understood of every option."""
    research = asked(tmp_path, "workspaces", "create", "--name", "research")

    row = made(
        tmp_path,
        *("--name", "ci", "--workspace", "research", "--model", "qwen3-*", "--model", "qwen-plus"),
        *("--surface", "chat", "--address", "10.0.0.0/8", "--address", "2001:db8::1", "--role", "viewer"),
        *("--rpm", "60", "--tpm", "100000", "--concurrency", "4"),
        *("--budget", "USD 2.50", "--budget-period", "day", "--expires", "2099-12-31"),
    )

    assert re.fullmatch(r"sk-\w{48}", row["key"])
    assert row["id"] == stored(tmp_path)[0].id
    assert (row["name"], row["workspace_id"], row["role"]) == ("ci", research["id"], "viewer")
    assert (row["models"], row["surfaces"]) == (["qwen3-*", "qwen-plus"], ["chat"])
    assert row["addresses"] == ["10.0.0.0/8", "2001:db8::1/128"]
    assert row["limits"] == {
        "rpm": 60,
        "tpm": 100_000,
        "concurrency": 4,
        "budget": {"nanos": 2_500_000_000, "currency": "USD", "period": "day"},
    }
    assert (row["expires_at"], row["state"]) == ("2099-12-31T00:00:00Z", "works")
    assert "hash" not in row


def test_a_key_without_options_is_held_to_nothing(tmp_path: Path) -> None:
    """A limit that nobody asked for would be found only when it strikes."""
    row = made(tmp_path)

    assert (row["workspace_id"], row["models"], row["expires_at"]) == ("default", [], None)
    assert set(row["limits"].values()) == {None}


@pytest.mark.parametrize(
    ("options", "code", "remedy"),
    [
        (("--model", "qwn3-max"), 1, "did you mean qwen3-max"),
        (("--model", "claude-*"), 1, "`hanlin models` lists them"),
        (("--model", "claude-*"), 1, "known to it alone: add --url"),
        (("--workspace", "nobody"), 1, "`hanlin workspaces list`"),
        (("--surface", "chats"), 2, "there are chat, text_completion, embeddings"),
        (("--address", "10.0.0.5/8"), 2, "the network is 10.0.0.0/8"),
        (("--address", "example.org"), 2, "such as 10.0.0.0/8"),
        (("--rpm", "-1"), 2, "0 or more"),
        (("--tpm", "1e6"), 2, "0 or more"),
        (("--concurrency", "99999999999999999999"), 2, "0 or more"),
        (("--budget", "ten"), 2, "2.50 CNY"),
        (("--budget", "0.0000000001"), 2, "nine decimal places"),
        (("--budget", "99999999999"), 2, "is the most"),
        (("--budget-period", "day"), 2, "give --budget"),
        (("--budget", "1", "--budget-period", "week"), 2, "day, month, total"),
        (("--expires", "tomorrow"), 2, "2026-12-31"),
        (("--expires", "2020-01-01"), 2, "give a later time"),
        (("--expires", "999999w"), 2, "30d"),
        (("--role", "root"), 2, "viewer, admin, owner"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_write(
    options: tuple[str, ...], code: int, remedy: str, tmp_path: Path
) -> None:
    """A limit that was misunderstood, or matches nothing, is worse than none: its owner believes in it."""
    done = hanlin(tmp_path, "keys", "create", *options)

    assert (done.returncode, done.stdout) == (code, "")
    assert remedy in done.stderr
    assert not Home(tmp_path).database.exists() or stored(tmp_path) == ()


def test_a_name_that_only_the_operators_deployment_answers_can_be_allowed(tmp_path: Path) -> None:
    """It stands in the settings, not in the catalogue."""
    config = '[[deployment]]\nname = "gpu"\nurl = "http://127.0.0.1:9/v1"\nserves = ["our-own-model"]\n'
    (tmp_path / "hanlin.toml").write_text(config)

    assert made(tmp_path, "--model", "our-own-*")["models"] == ["our-own-*"]
    assert hanlin(tmp_path, "keys", "create", "--model", "their-own-model").returncode == 1


def test_a_length_is_counted_from_now(tmp_path: Path) -> None:
    """Temporary keys are given for an hour or a day, not until a date."""
    before = datetime.now(UTC)

    made(tmp_path, "--expires", "12h")

    expires_at = stored(tmp_path)[0].expires_at
    assert expires_at is not None
    assert timedelta(0) <= expires_at - before - timedelta(hours=12) < timedelta(minutes=1)


def test_what_is_not_given_stays_and_none_takes_a_limit_away(tmp_path: Path) -> None:
    """A change of one limit must not cost the others; a budget keeps its currency and its period."""
    key_id = made(tmp_path, "--name", "ci", "--rpm", "60", "--tpm", "1000", "--budget", "USD 3", "--model", "qwen-*")[
        "id"
    ]

    asked(tmp_path, "keys", "change", key_id, "--rpm", "none", "--budget", "5", "--expires", "30d")
    row = stored(tmp_path)[0]
    asked(tmp_path, "keys", "change", key_id, "--model", "none", "--budget-period", "total", "--expires", "none")
    later = stored(tmp_path)[0]

    assert (row.name, row.models, row.limits.rpm, row.limits.tpm) == ("ci", ("qwen-*",), None, 1000)
    assert row.limits.budget == Budget(5_000_000_000, "USD", "month")
    assert row.expires_at is not None
    assert (later.models, later.expires_at) == ((), None)
    assert later.limits.budget == Budget(5_000_000_000, "USD", "total")


def test_a_change_needs_something_to_change_and_a_key_that_is_there(tmp_path: Path) -> None:
    """Nothing is said to be done that was not."""
    key_id = made(tmp_path)["id"]

    nothing = hanlin(tmp_path, "keys", "change", key_id)
    nobody = hanlin(tmp_path, "keys", "change", "key-none", "--rpm", "1")
    elsewhere = hanlin(tmp_path, "keys", "change", key_id, "--workspace", "nobody")
    unknown = hanlin(tmp_path, "keys", "change", key_id, "--model", "no-such-name")

    assert [done.returncode for done in (nothing, nobody, elsewhere, unknown)] == [2, 1, 1, 1]
    assert "key-none" in nobody.stderr
    assert stored(tmp_path)[0].limits.rpm is None


def test_a_rotated_key_is_replaced_by_one_that_may_the_same(tmp_path: Path) -> None:
    """The old one goes on for the overlap, so that programs can change over."""
    old = made(tmp_path, "--name", "ci", "--rpm", "60")

    new = asked(tmp_path, "keys", "rotate", old["id"], "--overlap", "2h")
    again = hanlin(tmp_path, "keys", "rotate", new["id"])

    assert new["key"] != old["key"]
    assert (new["replaces_id"], new["name"], new["limits"]) == (old["id"], "ci", old["limits"])
    until = datetime.fromisoformat(new["replaced"]["expires_at"])
    assert timedelta(hours=1, minutes=59) < until - datetime.now(UTC) <= timedelta(hours=2)
    assert re.fullmatch(r"sk-\w{48}\n", again.stdout)
    assert "works until" in again.stderr


def test_a_key_that_no_longer_works_is_not_rotated_nor_is_a_wrong_length_taken(tmp_path: Path) -> None:
    """A successor of a stolen key would be its resurrection."""
    key_id = made(tmp_path)["id"]

    wrong = hanlin(tmp_path, "keys", "rotate", key_id, "--overlap", "soon")
    hanlin(tmp_path, "keys", "revoke", key_id)
    revoked = hanlin(tmp_path, "keys", "rotate", key_id)

    assert (wrong.returncode, revoked.returncode) == (2, 1)
    assert "12h" in wrong.stderr
    assert len(stored(tmp_path)) == 1


def test_the_list_shows_workspace_limits_and_state(tmp_path: Path) -> None:
    """Everything fits 80 columns, and no id is broken: it is there to be copied."""
    asked(tmp_path, "workspaces", "create", "--name", "research")
    ids = [
        made(
            tmp_path, "--name", "ci", "--model", "qwen3-*", "--rpm", "60", "--budget", "2.50", "--expires", "2099-12-31"
        ),
        made(tmp_path, "--name", "guest", "--workspace", "research", "--expires", "12h"),
        made(tmp_path, "--name", "laptop"),
    ]
    hanlin(tmp_path, "keys", "revoke", ids[2]["id"])

    shown = hanlin(tmp_path, "keys", "list", COLUMNS="80").stdout
    wide = hanlin(tmp_path, "keys", "list", COLUMNS="140").stdout
    states = {row["id"]: row["state"] for row in asked(tmp_path, "keys", "list")}

    assert all(row["id"] in shown and row["key"] not in shown for row in ids)
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert all(word in shown for word in ("research", "60 rpm", "¥2.50/month", "expires 2099-12-31", "expires in 12 h"))
    assert "qwen3-*, 60 rpm, ¥2.50/month" in wide
    assert "revoked" in shown
    assert [states[row["id"]] for row in ids] == ["works", "works", "revoked"]


def test_lists_can_be_had_as_csv(tmp_path: Path) -> None:
    """For spreadsheets; also where there is nothing yet, and never in two forms at once."""
    for what in ("keys", "workspaces"):
        nothing = hanlin(tmp_path / "none", what, "list", "--csv")
        assert (nothing.returncode, nothing.stdout.count("\n")) == (0, 1)
        assert hanlin(tmp_path, what, "list", "--csv", "--json")[:2] == (2, "")
    key = made(tmp_path, "--name", "=1", "--rpm", "60")

    (row,) = csv.DictReader(io.StringIO(hanlin(tmp_path, "keys", "list", "--csv").stdout))

    assert (row["id"], row["name"], row["limits_rpm"], row["state"]) == (key["id"], "'=1", "60", "works")
    assert key["key"] not in str(row)


def test_a_name_cannot_steer_the_terminal(tmp_path: Path) -> None:
    """Whoever may make keys must not paint the screen of whoever lists them."""
    made(tmp_path, "--name", "\x1b[2Jclean")

    assert "\x1b" not in hanlin(tmp_path, "keys", "list").stdout


def test_every_change_is_in_the_audit_log_in_the_command_lines_name(tmp_path: Path) -> None:
    """And no key's text is."""
    row = made(tmp_path)
    asked(tmp_path, "keys", "change", row["id"], "--rpm", "1")
    new = asked(tmp_path, "keys", "rotate", row["id"])
    asked(tmp_path, "keys", "revoke", row["id"])

    log = changes(tmp_path)

    assert [(one.who, one.what) for one in log[::-1]] == [
        ("", "secret.take"),
        ("cli", "keys.add"),
        ("cli", "keys.change"),
        ("cli", "keys.rotate"),
        ("cli", "keys.revoke"),
    ]
    text = msgspec.json.encode(log).decode()
    assert row["key"] not in text
    assert new["key"] not in text


# Workspaces


def test_a_workspace_is_made_changed_and_listed(tmp_path: Path) -> None:
    """By its name, as people call it; the first one is there from the beginning."""
    research = asked(tmp_path, "workspaces", "create", "--name", "research", "--rpm", "600", "--budget", "¥100")

    changed = asked(tmp_path, "workspaces", "change", "research", "--name", "lab", "--rpm", "none")
    rows = asked(tmp_path, "workspaces", "list")
    shown = hanlin(tmp_path, "workspaces", "list", COLUMNS="80").stdout

    assert research["limits"]["rpm"] == 600
    assert changed["limits"] == {
        "rpm": None,
        "tpm": None,
        "concurrency": None,
        "budget": {"nanos": 100_000_000_000, "currency": "CNY", "period": "month"},
    }
    assert [row["name"] for row in rows] == ["default", "lab"]
    assert "¥100/month" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "remedy"),
    [
        (("create",), 2, "--name"),
        (("create", "--name", ""), 2, "--name"),
        (("create", "--name", "default"), 1, "Choose another"),
        (("change", "default"), 2, "nothing to change"),
        (("change", "nobody", "--rpm", "1"), 1, "`hanlin workspaces list`"),
        (("change", "default", "--name", ""), 2, "--name"),
    ],
)
def test_a_workspace_that_cannot_be_is_refused(
    arguments: tuple[str, ...], code: int, remedy: str, tmp_path: Path
) -> None:
    """Bills name workspaces: each has a name, and no two have the same."""
    done = hanlin(tmp_path, "workspaces", *arguments)

    assert done.returncode == code
    assert remedy in done.stderr


def test_looking_at_a_home_that_was_never_used_makes_nothing(tmp_path: Path) -> None:
    """Whoever mistypes --home must not find a new one there."""
    fresh = tmp_path / "home"

    workspaces = asked(fresh, "workspaces", "list")
    calls = asked(fresh, "usage")
    words = hanlin(fresh, "usage").stderr

    assert workspaces == []
    assert (calls["rows"], calls["total"]) == ([], [])
    assert "no call yet" in words
    assert not fresh.exists()


def test_a_workspace_keeps_content_when_it_is_told_to(tmp_path: Path) -> None:
    """Off unless somebody says yes; an operator sees which do."""
    made = asked(tmp_path, "workspaces", "create", "--name", "research")
    kept = asked(tmp_path, "workspaces", "change", "research", "--keep-content", "yes")
    shown = hanlin(tmp_path, "workspaces", "list").stdout
    again = asked(tmp_path, "workspaces", "change", "research", "--keep-content", "no", "--rpm", "5")
    wrong = hanlin(tmp_path, "workspaces", "change", "research", "--keep-content", "maybe")

    assert [made["keeps_content"], kept["keeps_content"], again["keeps_content"]] == [False, True, False]
    assert "keeps content" in shown
    assert (wrong.returncode, "there are yes, no" in wrong.stderr) == (2, True)


# Prices


def test_prices_are_those_of_the_catalogue_with_the_version_that_bills_name(tmp_path: Path) -> None:
    """Every tier of every kind of tokens, for scripts."""
    data = asked(tmp_path, "prices", "qwen-plus", "qwen3-max-2026-01-23")

    assert data["version"] == PriceList.of(load()).version
    assert (data["currency"], data["per_tokens"]) == ("CNY", 1_000_000)
    assert [row["name"] for row in data["prices"]] == ["qwen-plus", "qwen3-max-2026-01-23"]
    assert data["prices"][0]["tiers"] == [msgspec.to_builtins(tier) for tier in load().by_name["qwen-plus"].prices]


def test_own_prices_stand_below_those_of_the_list(tmp_path: Path) -> None:
    """By deployment, in their own currency; the version is the one that a service with this file charges by."""
    (tmp_path / "hanlin.toml").write_text(
        '[[deployment]]\nname = "gpu"\nurl = "http://127.0.0.1:9/v1"\n'
        '[[price]]\ndeployment = "gpu"\nnames = ["qwen3-*"]\ncurrency = "USD"\nprompt = 0.25\ncompletion = 1.5\n'
        '[[price]]\ndeployment = "embedded"\nprompt = 0.01\n'
    )

    data = asked(tmp_path, "prices", "qwen-plus")
    shown = hanlin(tmp_path, "prices", COLUMNS="100").stdout
    (tmp_path / "hanlin.toml").write_text('[[price]]\ndeployment = "gpu"\nprompt = -1\n')
    wrong = hanlin(tmp_path, "prices")

    assert data["version"] != PriceList.of(load()).version
    assert [row["deployment"] for row in data["own"]] == ["embedded"]
    assert "gpu qwen3-* USD" in shown
    assert wrong.returncode == 1
    assert "there is no [[deployment]] 'gpu'" in wrong.stderr


def test_prices_are_shown_by_tier_as_far_as_the_screen_reaches(tmp_path: Path) -> None:
    """On a wide one every kind of tokens has its column; on a narrow one the usual ones do."""
    narrow = hanlin(tmp_path, "prices", "qwen3-*", COLUMNS="80")
    wide = hanlin(tmp_path, "prices", "qwen-plus", COLUMNS="120")

    assert all(len(line) <= 80 for line in narrow.stdout.splitlines())
    assert "qwen3-coder-480b-a35b-instruct  ≤ 32K" in narrow.stdout
    assert "batch out" in wide.stdout
    assert PriceList.of(load()).version in wide.stderr


def test_a_name_without_a_price_says_so_and_an_unknown_one_fails(tmp_path: Path) -> None:
    """Silence would pass for free."""
    unpriced = next(name for name, model in load().models.items() if not model.prices)

    free = hanlin(tmp_path, "prices", unpriced)
    unknown = hanlin(tmp_path, "prices", "qwen-pluss")
    none = hanlin(tmp_path, "prices", "claude-*")

    assert f"Without a list price: {unpriced}" in free.stderr
    assert (unknown.returncode, none.returncode) == (1, 1)
    assert "did you mean qwen-plus" in unknown.stderr
