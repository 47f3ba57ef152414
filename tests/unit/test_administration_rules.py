"""What administrators may ask for: rules about values, and the words that pages and cells are written in."""

import contextlib
import json
import re
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanlin.cli.remote import Remote
from hanlin.errors import InvalidRequest, MethodNotAllowed, PathNotFound, RoleAccessDenied
from hanlin.http.admin import routes
from hanlin.http.app import ROUTES
from hanlin.service.administration import cursors, rules, tables, views
from hanlin.service.administration.operations import OPERATIONS, PREFIX, Administration, Operation
from hanlin.service.administration.steward import Steward
from hanlin.service.administration.values import BudgetChange, LimitsChange, NewKey
from hanlin.store.rows import ROLES, Budget, LedgerRow, Limits, Mark, Role

moments = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


# The table


def test_every_operation_is_a_method_of_whoever_administers() -> None:
    """The front calls them by these names, on the database as from afar."""
    names = {operation.name for operation in OPERATIONS}

    assert names == {name for name in vars(Administration) if not name.startswith("_")}
    assert all(hasattr(kind, name) for kind in (Steward, Remote) for name in names)
    assert len(names) == len(OPERATIONS)


def test_every_route_needs_a_role_and_there_is_no_other_way_in() -> None:
    """A path beside the table would have no check."""
    assert all(route.role in ROLES[1:] for route in routes.ROUTES)
    assert not [path for path in ROUTES if path.startswith(PREFIX)]
    looks = [route for route in routes.ROUTES if route.method == "GET"]
    assert {route.name for route in looks if route.role != "viewer"} == {"call"}, "what was said is not for everybody"
    assert all((route.method != "GET") <= (route.role != "viewer") for route in routes.ROUTES)


@pytest.mark.parametrize("route", routes.ROUTES, ids=lambda route: route.name)
def test_a_path_leads_to_its_operation(route: Operation) -> None:
    """With what stands in the place of its braces, as it was before it was escaped."""
    path = PREFIX + re.sub(r"\{\w+\}", "a%2Fb", route.path)

    found, subject = routes.route_of(path, route.method)

    assert found is route
    assert subject == (("a/b",) if route.subject else ())


@pytest.mark.parametrize(
    "path", ["", "/", "/keys/", "/keys//rotate", "/keys/a/b", "/keys/a/rotate/", "/keys/%00", "//"]
)
def test_a_path_that_is_none_leads_nowhere(path: str) -> None:
    """And is not taken for a key's id."""
    with pytest.raises(PathNotFound):
        routes.route_of(PREFIX + path, "GET")


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_any_path_is_answered(path: str) -> None:
    """Whatever is sent."""
    with contextlib.suppress(PathNotFound, MethodNotAllowed):
        routes.route_of(f"{PREFIX}/{path}", "GET")


@given(st.text(max_size=60))
def test_any_query_is_read_or_refused(query: str) -> None:
    """Nothing that is sent becomes a failure of ours."""
    for route in routes.ROUTES:
        with contextlib.suppress(InvalidRequest):
            routes.parameters(route, query)


@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: json.dumps({"name": text}).encode())))
def test_any_body_is_read_or_refused(content: bytes) -> None:
    """The same."""
    for route in routes.ROUTES:
        with contextlib.suppress(InvalidRequest):
            routes.body(route, content)


# Roles


@pytest.mark.parametrize(
    ("role", "may"),
    [("", set()), ("viewer", {"viewer"}), ("admin", {"viewer", "admin"}), ("owner", {"viewer", "admin", "owner"})],
)
def test_each_role_may_what_those_below_it_may(role: Role, may: set[Role]) -> None:
    """viewer looks, admin changes, owner gives roles."""
    for needed in ROLES[1:]:
        if needed in may:
            rules.require(role, needed)
        else:
            with pytest.raises(RoleAccessDenied, match=f"needs the role '{needed}'"):
                rules.require(role, needed)


# Limits


def test_a_change_of_limits_leaves_alone_what_it_does_not_name() -> None:
    """null takes a limit away, what is left out stays."""
    old = Limits(rpm=1, tpm=2, budget=Budget(3, "USD", "day"))

    assert rules.changed_limits(old, LimitsChange()) == old
    assert rules.changed_limits(old, LimitsChange(rpm=None, concurrency=0)) == Limits(None, 2, 0, old.budget)
    changed = rules.changed_limits(old, LimitsChange(budget=BudgetChange(nanos=4)))
    assert changed.budget == Budget(4, "USD", "day")
    assert rules.changed_limits(old, LimitsChange(budget=None)).budget is None
    new = rules.changed_limits(Limits(), LimitsChange(budget=BudgetChange(nanos=5)))
    assert new.budget == Budget(5, "CNY", "month")
    with pytest.raises(InvalidRequest, match="give its amount"):
        rules.changed_limits(Limits(), LimitsChange(budget=BudgetChange(period="day")))


def test_networks_are_written_in_one_way_and_once() -> None:
    """An address is a network of one."""
    assert rules.networks(["10.0.0.1", "10.0.0.1/32", "2001:db8::/32"]) == ("10.0.0.1/32", "2001:db8::/32")


def test_the_time_of_an_expiry_is_kept_in_utc() -> None:
    """Answers and lists show it so."""
    at = datetime(2126, 1, 1, 8, tzinfo=timezone(timedelta(hours=8)))

    found = rules.expiry(at, datetime(2026, 1, 1, tzinfo=UTC))

    assert found is not None
    assert found.isoformat() == "2126-01-01T00:00:00+00:00"


def test_what_is_wrong_is_told_by_its_place() -> None:
    """A program that sent fifty fields must find the one."""
    cases = {
        b'{"x": 1}': "x",
        b'{"limits": {"budget": {"nanos": "1"}}}': "limits.budget.nanos",
        b'{"limits": {"budget": {}}}': "limits.budget.nanos",
        b'{"models": ["a", 1]}': "models[1]",
        b"[]": None,
    }
    for content, param in cases.items():
        with pytest.raises(msgspec.ValidationError) as error:
            msgspec.json.decode(content, type=NewKey)
        assert rules.invalid(error.value).param == param


# Pages and cells


@given(moments, st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=50))
def test_a_mark_is_one_word_and_comes_back(at: datetime, row_id: str) -> None:
    """It travels in addresses and on command lines."""
    word = cursors.written(Mark(at, row_id))

    assert word is not None
    assert word.isascii()
    assert word.replace("-", "").replace("_", "").isalnum()
    assert cursors.mark_of(word) == Mark(at, row_id)


@given(st.text(min_size=1, max_size=60))
def test_a_word_that_is_no_mark_is_refused(word: str) -> None:
    """Whoever makes one up gets no page from somewhere."""
    for read in (cursors.mark_of, cursors.number_of):
        with contextlib.suppress(InvalidRequest):
            assert read(word) is not None


@given(st.integers(1, 10**17))
def test_a_number_comes_back(number: int) -> None:
    """As marks do."""
    assert cursors.number_of(cursors.numbered(number) or "") == number


@given(st.text(max_size=20))
def test_no_cell_begins_as_a_formula(text: str) -> None:
    """What a spreadsheet would run is text, and nothing is lost of it."""
    cell = tables.cell(text)

    assert not cell.startswith(("=", "+", "@", "\t", "\r"))
    assert cell.removeprefix("'") == text.removeprefix("'") if cell != text else cell == text


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("-2.5", "-2.5"),
        ("-2+3", "'-2+3"),
        ("=1", "'=1"),
        (-3, -3),
        (1.5, 1.5),
        (None, None),
        (True, "true"),
        ({"images": 2}, '{"images":2}'),
        ("qwen-plus", "qwen-plus"),
        ("", ""),
    ],
)
def test_numbers_stay_numbers(value: object, cell: object) -> None:
    """A bill is added up in the spreadsheet."""
    assert tables.cell(value) == cell


# Calls


def test_every_field_of_a_row_is_told() -> None:
    """A new field of the ledger must not end the list of calls; what a scenario's caller was told is one of them."""
    row = LedgerRow(
        id="c1", began_at=datetime(2026, 11, 27, tzinfo=UTC), key_id="k", workspace_id="w", surface="chat", model="m"
    )
    scenario = msgspec.structs.replace(row, told_prompt=7, told_completion=3)

    plain, told = views.call_view(row, views.Names()), views.call_view(scenario, views.Names())

    assert (plain.told_prompt_tokens, plain.told_completion_tokens) == (None, None)
    assert (told.told_prompt_tokens, told.told_completion_tokens) == (7, 3)
    assert (told.prompt_tokens, told.completion_tokens) == (0, 0)
