"""Say why a call may not begin: the vendor's words, then which limit of whom, its value, and when to come back.

Pure. Whoever reads such an answer must be able to act on it: "quota exceeded" alone has cost people hours of asking
which quota, of what, and until when.
"""

import math

from hanlin.errors import (
    BudgetExceeded,
    BurstExceeded,
    PlacesExceeded,
    QuotaExceeded,
    RequestsExceeded,
    TokensExceeded,
)
from hanlin.metering.limits import Demand, Pace, Refused, State, Subject, bucket_left
from hanlin.metering.periods import Span
from hanlin.metering.rates import rates
from hanlin.store.rows import NANOS, Budget
from hanlin.words import say

_LONGEST_S = 60
"""SDKs give up on what asks them to wait longer: spec/surfaces.md §9.1."""

_ERRORS: dict[str, type[QuotaExceeded]] = {
    "requests": RequestsExceeded,
    "burst": BurstExceeded,
    "tokens": TokensExceeded,
    "concurrency": PlacesExceeded,
    "budget": BudgetExceeded,
}

_PERIODS = {"day": ("a day", "每天"), "month": ("a month", "每月"), "total": ("in all", "总计")}


def error_of(refused: Refused, span: Span, demand: Demand, pace: Pace, wall: float) -> QuotaExceeded:
    """Return the answer to a call that was refused at the UNIX time `wall`; `span` is that of the subject's budget."""
    retry_s = refused.wait_s
    if refused.which == "budget" and math.isinf(retry_s):
        until_s = span.ends_at - wall
        retry_s = until_s if until_s <= _LONGEST_S else math.inf
    retry_after_s = None if math.isinf(retry_s) else min(max(math.ceil(retry_s), 1), _LONGEST_S)
    remedy = _remedy(refused, span, demand, pace)
    if refused.share > 1:
        remedy += say(
            f" Limits are divided by {refused.share} for now, because Redis, where they are kept, does not answer.",
            f" 由于保存限额的 Redis 暂无响应，限额暂按 {refused.share} 个进程均分。",
        )
    left = rates(refused.subjects, refused.states, refused.now, pace)
    return _ERRORS[refused.which](remedy, retry_after_s=retry_after_s, headers=left.headers())


def money(nanos: int, currency: str) -> str:
    """Write an amount exactly, without idle zeros: `0.0023 CNY`."""
    whole, rest = divmod(abs(nanos), NANOS)
    decimals = f".{rest:09d}".rstrip("0").rstrip(".")
    return f"{'-' if nanos < 0 else ''}{whole}{decimals} {currency}"


def _remedy(refused: Refused, span: Span, demand: Demand, pace: Pace) -> str:
    limits, state, whose = refused.subject.limits, refused.state, _whose(refused.subject)
    again = _again(refused.wait_s)
    match refused.which:
        case "requests":
            return say(
                f"{whose} may make {limits.rpm} calls a minute{_evenly(limits.rpm, pace)}. {again}",
                f"{whose}每分钟最多调用 {limits.rpm} 次{_evenly(limits.rpm, pace)}。{again}",
            )
        case "burst":
            even = (limits.rpm or 0) / 60 * (pace.burst or 1)
            return say(
                f"{whose} may make {limits.rpm} calls a minute, at most {even:.4g} of them within a second. {again}",
                f"{whose}每分钟最多调用 {limits.rpm} 次，每秒不超过 {even:.4g} 次。{again}",
            )
        case "tokens":
            left = bucket_left(limits.tpm or 0, state.tokens_full_at, refused.now, pace.window_s)
            return say(
                f"{whose} may use {limits.tpm} tokens a minute{_evenly(limits.tpm, pace)}: {left} are left now, and "
                f"this call asks for up to {demand.tokens}, its prompt and the longest answer it allows. {again}",
                f"{whose}每分钟最多使用 {limits.tpm} 个 token{_evenly(limits.tpm, pace)}：现剩 {left}，本次调用"
                f"（输入加允许的最长输出）最多需要 {demand.tokens}。{again}",
            )
        case "concurrency":
            return say(
                f"{whose} may have {limits.concurrency} calls at the same time, and has {state.running}. {again}",
                f"{whose}最多同时进行 {limits.concurrency} 个调用，现有 {state.running} 个。{again}",
            )
        case "budget":
            return _budget_remedy(whose, limits.budget or Budget(0), state, span, demand, refused.wait_s)


def _budget_remedy(whose: str, budget: Budget, state: State, span: Span, demand: Demand, wait_s: float) -> str:
    a_period, a_period_zh = _PERIODS[budget.period]
    limit, spent, reserved, needed = (
        money(nanos, budget.currency) for nanos in (budget.nanos, state.spent, state.reserved, demand.nanos)
    )
    if not math.isinf(wait_s):
        again = _again(wait_s)
    elif span.until is None:
        again = say("Ask the operator to raise it.", "请联系管理员提高预算。")
    else:
        until = f"{span.until:%Y-%m-%d %H:%M} UTC"
        again = say(
            f"It begins anew at {until}; until then, ask the operator to raise it.",
            f"预算将于 {until} 重新计算；在此之前请联系管理员提高预算。",
        )
    return say(
        f"{whose} may spend {limit} {a_period}: {spent} are spent, {reserved} held for calls that run, and this call "
        f"may cost {needed}. {again}",
        f"{whose}预算为{a_period_zh} {limit}：已用 {spent}，进行中的调用预留 {reserved}，本次调用最多需要 {needed}。"
        f"{again}",
    )


def _whose(subject: Subject) -> str:
    name = subject.name
    return {
        "key": say(f"The key {name!r}", f"密钥 {name!r} "),
        "workspace": say(f"The workspace {name!r}", f"工作空间 {name!r} "),
        "model": say(f"The model {name!r}, all callers together,", f"模型 {name!r}（所有调用方合计）"),
    }[subject.kind]


def _evenly(limit: int | None, pace: Pace) -> str:
    if pace.window_s >= 60:
        return ""
    share = f"{(limit or 0) * pace.window_s / 60:.4g}"
    return say(f", {share} in {pace.window_s:g} s", f"（每 {pace.window_s:g} 秒 {share}）")


def _again(wait_s: float) -> str:
    if math.isinf(wait_s):
        return say("Its limit is 0: ask the operator.", "该限额为 0，请联系管理员。")
    seconds = max(math.ceil(wait_s), 1)
    return say(f"Come back in {seconds} s.", f"请在 {seconds} 秒后重试。")
