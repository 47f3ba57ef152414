"""What keys and workspaces are held to, as options of a command: one table for the parser, the help pages and us.

The parser leaves every value as text, so that `none` can take a limit away and a wrong one is told what to write.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import typer
from msgspec import UNSET, UnsetType

from hanlin.cli import money, times
from hanlin.cli.options import Command, with_options
from hanlin.cli.show import Misused
from hanlin.service.administration import rules
from hanlin.service.administration.values import MOST, BudgetChange, BudgetTerms, LimitsChange, LimitTerms
from hanlin.store.rows import ROLES, Period
from hanlin.types import SURFACES
from hanlin.words import say

_NOTHING = "none"
_PERIODS = typing.get_args(Period)
_ROLES = tuple(filter(None, ROLES))

Given = Mapping[str, Any]
"""The values of the options that were given, by the names of their terms."""


class Term(NamedTuple):
    """One option. `read` raises ValueError that says what to write; `nothing` is what `none` stands for, if it does."""

    metavar: str
    sentence: str
    read: Callable[[str], Any]
    several: bool = False
    nothing: Any = ...


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= MOST):
        raise ValueError(say("write a whole number, 0 or more, or none", "请写不小于 0 的整数，或 none"))
    return int(text)


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError(say(f"there are {', '.join(words)}", f"可选值为 {'、'.join(words)}"))
        return text

    return read


def _yes_or_no(text: str) -> bool:
    return _one_of("yes", "no")(text) == "yes"


def _expiry(text: str) -> datetime:
    now = datetime.now(UTC)
    return rules.ahead(times.moment(text, now, "from now"), now)


def _text(text: str) -> str:
    return text


TERMS: Mapping[str, Term] = {
    "name": Term("NAME", say("What it is for, to tell them apart.", "用途，便于区分。"), _text),
    "workspace": Term("W", say("Who pays: a workspace's name or id [default].", "计费的业务空间 [default]。"), _text),
    "model": Term(
        "PATTERN", say("Only names like this (qwen3-*) [any].", "仅限此类名称（qwen3-*）[不限]。"), _text, True, ()
    ),
    "surface": Term(
        "WORD",
        say(f"Only {', '.join(SURFACES)} [any].", f"仅限 {'、'.join(SURFACES)} [不限]。"),
        _one_of(*SURFACES),
        True,
        (),
    ),
    "address": Term("CIDR", say("Only from this network [any].", "仅限来自此网段 [不限]。"), rules.network, True, ()),
    "rpm": Term("N", say("Requests a minute.", "每分钟请求数。"), _count, nothing=None),
    "tpm": Term("N", say("Tokens a minute.", "每分钟 token 数。"), _count, nothing=None),
    "concurrency": Term("N", say("Calls at once.", "并发数。"), _count, nothing=None),
    "budget": Term(
        "AMOUNT",
        say("What it may cost: 10, 2.50 CNY, USD 3.", "费用上限：10、2.50 CNY、USD 3。"),
        money.amount,
        nothing=None,
    ),
    "budget_period": Term(
        "P", say(f"{', '.join(_PERIODS)} (UTC) [month].", f"{'、'.join(_PERIODS)}（UTC）[month]。"), _one_of(*_PERIODS)
    ),
    "expires": Term(
        "DATE",
        say("2026-12-31 (0:00 UTC), an ISO time, 30d, 12h.", "2026-12-31（UTC 零点）、ISO 时间、30d、12h。"),
        _expiry,
        nothing=None,
    ),
    "keep_content": Term(
        "yes|no",
        say("Store prompts and answers of its calls [no].", "保存其调用的提示词与回答 [no]。"),
        _yes_or_no,
    ),
    "role": Term(
        "ROLE",
        say(f"In the admin API: {', '.join(_ROLES)} [none].", f"管理 API 角色：{'、'.join(_ROLES)} [none]。"),
        _one_of(*_ROLES),
        nothing="",
    ),
}

_COUNTS = ("rpm", "tpm", "concurrency")
LIMITS = (*_COUNTS, "budget", "budget_period")


def with_terms(*names: str) -> Callable[[Command], Command]:
    """Give a command the options of these terms; what was given reaches it as one value, `given`."""

    def given(texts: Mapping[str, Any]) -> Given:
        return {name: read(name, text) for name, text in texts.items() if text is not None}

    options = [_parameter(name, TERMS[name]) for name in names]
    return lambda command: with_options(command, "given", options, given, first=True)


def read(name: str, text: str | list[str]) -> Any:
    """Return the value of a term; a tuple for one that may be repeated. Raises Misused."""
    term = TERMS[name]
    if term.nothing is not ... and text in (_NOTHING, [_NOTHING]):
        return term.nothing
    if isinstance(text, list):
        return tuple(dict.fromkeys(_read(name, each) for each in text))
    return _read(name, text)


def limit_terms(given: Given) -> LimitTerms:
    """Return the limits that were given. Raises Misused for a period without a budget."""
    counts = {name: given[name] for name in _COUNTS if name in given}
    amount = given.get("budget")
    if amount is None:
        if "budget_period" in given:
            raise _no_budget()
        return LimitTerms(**counts)
    budget = BudgetTerms(**_budget(amount), **_period(given))
    return LimitTerms(**counts, budget=budget)


def limits_change(given: Given) -> LimitsChange | UnsetType:
    """Return the change of limits that was given, if one was. Raises Misused for the period of no budget."""
    if not any(name in given for name in LIMITS):
        return UNSET
    counts = {name: given[name] for name in _COUNTS if name in given}
    budget: BudgetChange | UnsetType | None = UNSET
    if "budget" in given and given["budget"] is None:
        if "budget_period" in given:
            raise _no_budget()
        budget = None
    elif "budget" in given or "budget_period" in given:
        amount = _budget(given["budget"]) if "budget" in given else {}
        budget = BudgetChange(**amount, **_period(given))
    return LimitsChange(**counts, budget=budget)


def _budget(amount: tuple[int, str]) -> dict[str, Any]:
    nanos, currency = amount
    return {"nanos": nanos, "currency": currency} if currency else {"nanos": nanos}


def _period(given: Given) -> dict[str, Any]:
    return {"period": given["budget_period"]} if "budget_period" in given else {}


def _no_budget() -> Misused:
    return Misused(
        say("--budget-period: there is no budget; give --budget", "--budget-period：没有预算；请给出 --budget")
    )


def in_short(limits: LimitTerms) -> list[str]:
    """Return each limit as a few characters: `60 rpm`, `¥10/month`."""
    counts = (
        (limits.rpm, "rpm"),
        (limits.tpm, "tpm"),
        (limits.concurrency, say("at once", "并发")),
    )
    found = [f"{count:,} {unit}" for count, unit in counts if count is not None]
    return found if limits.budget is None else [*found, money.of_budget(limits.budget)]


def _read(name: str, text: str) -> Any:
    try:
        return TERMS[name].read(text)
    except ValueError as error:
        raise Misused(say(f"--{_flag(name)} {text!r}: {error}", f"--{_flag(name)} {text!r}：{error}")) from error


def _flag(name: str) -> str:
    return name.replace("_", "-")


def _parameter(name: str, term: Term) -> inspect.Parameter:
    option = typer.Option(f"--{_flag(name)}", metavar=term.metavar, help=term.sentence, show_default=False)
    annotation = Annotated[list[str] | None, option] if term.several else Annotated[str | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
