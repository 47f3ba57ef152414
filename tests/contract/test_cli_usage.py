"""`hanlin usage` as people and scripts run it, on a ledger that is filled for it, without processes."""

import asyncio
import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from hanlin.home import Home, prepare
from hanlin.store.database import open_store
from hanlin.store.rows import Content, LedgerRow, Outcome
from hanlin.types import Usage
from tests.cli import hanlin

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)

LONG_NAME = "qwen3-235b-a22b-instruct-2507"


def call(id: str, **fields: Any) -> LedgerRow:
    usual: dict[str, Any] = {
        "began_at": NOON,
        "key_id": "key-1",
        "workspace_id": "default",
        "surface": "chat",
        "model": "qwen-plus",
        "deployment": "gpu-1",
        "usage": Usage(1000, 50, 400, 20),
        "cost_nanos": 900_000,
        "list_cost_nanos": 900_000,
        "total_ms": 1234.5,
    }
    return LedgerRow(id=id, **{**usual, **fields})


CALLS = (
    call("call-1"),
    call("call-2", model="qwen3-max", cost_nanos=2_500_000_001, usage=Usage(10, 5)),
    call("call-3", outcome=Outcome.FAILED, status=502, usage=Usage(), cost_nanos=0, deployment=""),
    call("call-4", began_at=NOON + timedelta(days=2), estimated=True),
    call("call-5", began_at=NOON + timedelta(days=2), model="qwen-flash", usage=Usage(5_000_000, 7), cost_nanos=0),
)


def filled(home: Path, calls: Sequence[LedgerRow] = CALLS) -> tuple[str, str]:
    """Put calls into the home's ledger; return the ids of a key and a workspace that are there."""
    prepare(Home(home))

    async def fill() -> tuple[str, str]:
        async with await open_store(Home(home).database) as store:
            workspace = await store.workspaces.add("research")
            key = await store.keys.add("laptop", "0" * 64, "wxyz", workspace_id=workspace.id)
            await store.ledger.append(calls)
            own = {"key_id": key.id, "workspace_id": workspace.id}
            await store.ledger.append([call("call-own", **own, cost_nanos=1, model=LONG_NAME)])
            return key.id, workspace.id

    return asyncio.run(fill())


def asked(home: Path, *arguments: str) -> Any:
    done = hanlin(home, "usage", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_totals_are_told_apart_and_add_up_to_the_token(tmp_path: Path) -> None:
    """A script's bill: whole numbers of tokens and nanos, costs as exact decimals, costliest first."""
    filled(tmp_path)

    data = asked(tmp_path)

    assert data["by"] == ["model"]
    assert [row["model"] for row in data["rows"]] == ["qwen3-max", "qwen-plus", LONG_NAME, "qwen-flash"]
    assert data["rows"][1] == {
        "model": "qwen-plus",
        "calls": 3,
        "failed": 1,
        "estimated": 1,
        "prompt_tokens": 2000,
        "cached_tokens": 800,
        "cache_created_tokens": 0,
        "completion_tokens": 100,
        "reasoning_tokens": 40,
        "currency": "CNY",
        "cost_nanos": 1_800_000,
        "cost": "0.0018",
        "list_cost_nanos": 2_700_000,
        "list_cost": "0.0027",
    }
    (total,) = data["total"]
    assert (total["calls"], total["cost_nanos"], total["cost"]) == (6, 2_501_800_002, "2.501800002")
    for name in ("calls", "failed", "prompt_tokens", "completion_tokens", "cost_nanos", "list_cost_nanos"):
        assert total[name] == sum(row[name] for row in data["rows"])


def test_several_dimensions_and_their_names(tmp_path: Path) -> None:
    """Ids for programs, names beside them; a key that is not known keeps its id."""
    key_id, workspace_id = filled(tmp_path)

    rows = asked(tmp_path, "--by", "workspace", "--by", "key", "--by", "day")["rows"]

    own = next(row for row in rows if row["key_id"] == key_id)
    assert (own["day"], own["key_name"]) == ("2026-11-20", "laptop")
    assert (own["workspace_id"], own["workspace_name"]) == (workspace_id, "research")
    assert {row["key_name"] for row in rows if row["key_id"] == "key-1"} == {""}
    assert "laptop …wxyz" in hanlin(tmp_path, "usage", "--by", "key").stdout


def test_questions_are_narrowed_by_key_workspace_model_and_time(tmp_path: Path) -> None:
    """A date is its first moment in UTC; the end is not part of the time."""
    key_id, _ = filled(tmp_path)

    def calls(*options: str) -> int:
        return sum(row["calls"] for row in asked(tmp_path, *options)["total"])

    assert calls("--key", key_id) == calls("--workspace", "research") == 1
    assert calls("--model", "qwen-plus") == 3
    assert calls("--since", "2026-11-21") == 2
    assert calls("--until", "2026-11-22") == 4
    assert calls("--since", "2026-11-20T20:00:01+08:00", "--until", "2026-11-22") == 0
    assert asked(tmp_path, "--since", "2026-11-21")["since"] == "2026-11-21T00:00:00Z"


def test_a_length_is_counted_back_from_now(tmp_path: Path) -> None:
    """`--since 7d` is what people ask first."""
    now = datetime.now(UTC)
    filled(tmp_path, [call("old", began_at=now - timedelta(days=8)), call("new", began_at=now - timedelta(days=6))])

    assert asked(tmp_path, "--since", "7d", "--model", "qwen-plus")["total"][0]["calls"] == 1


def test_a_days_table_stands_in_the_order_of_days_with_a_bar_for_each(tmp_path: Path) -> None:
    """Days without a call have their place, bars are as wide as the screen, and each has its value beside it."""
    filled(tmp_path)

    shown = hanlin(tmp_path, "usage", "--by", "day", COLUMNS="80").stdout
    wide = hanlin(tmp_path, "usage", "--by", "day", COLUMNS="120").stdout
    tokens = hanlin(tmp_path, "usage", "--by", "day", "--model", "qwen-flash").stdout

    bars = shown.partition("by day (UTC)")[2].strip().splitlines()
    assert [line[:10] for line in bars] == ["2026-11-20", "2026-11-21", "2026-11-22"]
    assert [line.count("█") for line in bars] == [60, 0, 0]
    assert "▏" in bars[2]
    assert [line.split()[-1] for line in bars] == ["2.5009", "0", "0.0009"]
    assert all(cell_len(line) <= 80 for line in shown.splitlines())
    assert wide.count("█") == 100
    assert "tokens, by day" in tokens


@pytest.mark.parametrize("by", ["key", "workspace", "model", "deployment", "surface", "day"])
@pytest.mark.parametrize("columns", [80, 120])
def test_the_table_fits_the_screen_and_ends_with_the_total(by: str, columns: int, tmp_path: Path) -> None:
    """Where digits do not fit, tokens are written short; where they do, every kind has its column."""
    filled(tmp_path)

    lines = hanlin(tmp_path, "usage", "--by", by, COLUMNS=str(columns)).stdout.splitlines()

    assert all(cell_len(line) <= columns for line in lines)
    (total,) = [line for line in lines if line.startswith("total")]
    assert total.split()[1:3] == ["6", "1"]
    assert "5.00M" in total or "5,003,010" in total
    if columns == 120:
        assert "5,003,010" in total
        assert "reasoning" in lines[0]


def test_currencies_are_never_added_together(tmp_path: Path) -> None:
    """Each has its own total line."""
    filled(tmp_path, [*CALLS, call("call-usd", currency="USD", cost_nanos=3_000_000_000)])

    shown = hanlin(tmp_path, "usage").stdout
    total = asked(tmp_path)["total"]

    assert {row["currency"]: row["cost"] for row in total} == {"CNY": "2.501800002", "USD": "3"}
    assert "USD 3.0000" in shown


def test_csv_has_the_same_columns_as_json_also_without_a_row(tmp_path: Path) -> None:
    """A spreadsheet's head does not come and go."""
    filled(tmp_path)

    full = list(csv.DictReader(io.StringIO(hanlin(tmp_path, "usage", "--by", "key", "--csv").stdout)))
    empty = hanlin(tmp_path, "usage", "--by", "key", "--csv", "--since", "2099-01-01").stdout
    calls = list(csv.DictReader(io.StringIO(hanlin(tmp_path, "usage", "--calls", "--csv").stdout)))

    rows = asked(tmp_path, "--by", "key")["rows"]
    assert full == [{name: str(value) for name, value in row.items()} for row in rows]
    assert empty.strip().split(",") == list(rows[0])
    assert list(calls[0]) == list(asked(tmp_path, "--calls")["calls"][0])


def test_the_latest_calls_are_listed_page_by_page_each_once(tmp_path: Path) -> None:
    """The mark at the end of a page names the next; calls of one moment are not lost between two pages."""
    filled(tmp_path)

    found, before = [], ""
    while True:
        page = asked(tmp_path, "--calls", "2", *(("--before", before) if before else ()))
        found += [row["id"] for row in page["calls"]]
        before = page["next"]
        if before is None:
            break

    assert found == ["call-5", "call-4", "call-own", "call-3", "call-2", "call-1"]
    shown = hanlin(tmp_path, "usage", "--calls", "2")
    assert f"--before {asked(tmp_path, '--calls', '2')['next']}" in shown.stderr
    assert "--before" not in hanlin(tmp_path, "usage", "--calls").stderr


def test_all_calls_are_exported_page_by_page_once_each(tmp_path: Path) -> None:
    """More than fit a page: as CSV with one head, as one JSON object, the newest first."""
    calls = [call(f"call-{number:05}", began_at=NOON + timedelta(seconds=number)) for number in range(1500)]
    filled(tmp_path, calls)
    wanted = [row.id for row in reversed(calls)]

    rows = list(csv.DictReader(io.StringIO(hanlin(tmp_path, "usage", "--calls", "--all", "--csv").stdout)))
    data = asked(tmp_path, "--calls", "--all", "--model", "qwen-plus", "--since", "2026-11-01")

    assert [row["id"] for row in rows if row["id"] != "call-own"] == wanted
    assert [row["id"] for row in data["calls"]] == wanted
    assert (data["since"], data["until"], data["next"]) == ("2026-11-01T00:00:00Z", None, None)
    assert hanlin(tmp_path, "usage", "--calls", "--all", "--csv", "--key", "key-none")[:2] == (1, "")
    assert asked(tmp_path / "none", "--calls", "--all")["calls"] == []
    assert data["calls"][0] == asked(tmp_path, "--calls", "1", "--model", "qwen-plus")["calls"][0]


def test_a_name_does_not_become_a_formula_of_a_spreadsheet(tmp_path: Path) -> None:
    """Whoever may name models or keys must not have code run where the bill is opened; numbers stay numbers."""
    evil = '=cmd|" /C calc"!A0'
    filled(tmp_path, [call("call-1", model=evil), call("call-2", model="+1+1", deployment="@SUM(1)", served="-2+3")])

    totals = list(csv.DictReader(io.StringIO(hanlin(tmp_path, "usage", "--csv").stdout)))
    calls = list(csv.DictReader(io.StringIO(hanlin(tmp_path, "usage", "--calls", "--csv").stdout)))

    assert {row["model"] for row in totals} == {f"'{evil}", "'+1+1", LONG_NAME}
    found = next(row for row in calls if row["id"] == "call-2")
    assert (found["deployment"], found["served"]) == ("'@SUM(1)", "'-2+3")
    assert (found["cost_nanos"], found["cost"]) == ("900000", "0.0009")


def test_a_calls_line_says_how_it_ended_and_what_is_a_guess(tmp_path: Path) -> None:
    """On 80 columns the essentials, on a wide screen whose it was, where it went, and its id."""
    filled(tmp_path)

    narrow = hanlin(tmp_path, "usage", "--calls", COLUMNS="80").stdout
    wide = hanlin(tmp_path, "usage", "--calls", COLUMNS="160").stdout

    assert all(cell_len(line) <= 80 for line in narrow.splitlines())
    assert "failed 502" in narrow
    assert "~1,000" in narrow
    assert "1.23" in narrow
    assert "<0.000001" in narrow
    assert all(word in wide for word in ("laptop …wxyz", "gpu-1", "call-own"))


@pytest.mark.parametrize(
    ("options", "code", "remedy"),
    [
        (("--by", "colour"), 2, "day, key, workspace, model, deployment, surface"),
        (("--since", "yesterday"), 2, "2026-12-31"),
        (("--since", "2026-12-01", "--until", "2026-11-01"), 2, "is not before"),
        (("--json", "--csv"), 2, "one of them"),
        (("--calls", "--by", "model"), 2, "leave it out"),
        (("--calls", "--before", "yesterday"), 2, "is no mark"),
        (("--calls", "0"), 2, "1 to 1000"),
        (("--calls", "1001"), 2, "1 to 1000"),
        (("20",), 2, "--calls"),
        (("--before", "x"), 2, "--calls"),
        (("--all", "--json"), 2, "--calls"),
        (("--calls", "--all"), 2, "--json or --csv"),
        (("--calls", "5", "--all", "--csv"), 2, "neither N"),
        (("--key", "key-none"), 1, "`hanlin keys list`"),
        (("--workspace", "nobody"), 1, "`hanlin workspaces list`"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    options: tuple[str, ...], code: int, remedy: str, tmp_path: Path
) -> None:
    """An empty answer would pass for the truth."""
    filled(tmp_path)

    done = hanlin(tmp_path, "usage", *options)

    assert (done.returncode, done.stdout) == (code, "")
    assert remedy in done.stderr


def test_a_time_without_calls_is_said_to_have_none(tmp_path: Path) -> None:
    """On stderr: stdout stays empty."""
    filled(tmp_path)

    done = hanlin(tmp_path, "usage", "--since", "2099-01-01", HANLIN_LANG="zh")

    assert (done.returncode, done.stdout) == (0, "")
    assert "没有符合条件的调用" in done.stderr


def test_one_call_is_shown_whole_with_what_its_workspace_keeps(tmp_path: Path) -> None:
    """Every column by its name; prompt and answer where they are kept, null where they are not."""
    filled(tmp_path)

    async def keep() -> None:
        async with await open_store(Home(tmp_path).database) as store:
            await store.contents.append(
                [
                    Content(
                        call_id="call-1",
                        began_at=NOON,
                        workspace_id="default",
                        prompt='{"messages":[{"role":"user","content":"春眠"}]}',
                        answer='{"choices":[{"index":0,"text":"不觉晓"}]}',
                    )
                ]
            )

    asyncio.run(keep())

    kept, other = asked(tmp_path, "--call", "call-1"), asked(tmp_path, "--call", "call-2")
    shown = hanlin(tmp_path, "usage", "--call", "call-1").stdout
    nobody = hanlin(tmp_path, "usage", "--call", "call-9")
    misused = hanlin(tmp_path, "usage", "--call", "call-1", "--calls")

    assert (kept["id"], kept["prompt_tokens"], kept["cost"]) == ("call-1", 1000, "0.0009")
    assert kept["content"]["prompt"]["messages"][0]["content"] == "春眠"
    assert other["content"] is None
    assert "不觉晓" in shown
    assert "prompt_tokens" in shown
    assert (nobody.returncode, misused.returncode) == (1, 2)
    assert "no call has the id 'call-9'" in nobody.stderr
