"""What administrators may ask for: decisions about values, without a database. The command line reads its options by
the same rules.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TypeVar

import msgspec
from msgspec import UNSET

from hanlin.errors import InvalidRequest, RoleAccessDenied
from hanlin.service.administration.values import BudgetChange, LimitsChange
from hanlin.store.rows import ROLES, Budget, KeyRow, Limits, Role
from hanlin.words import say

Value = TypeVar("Value", bound=msgspec.Struct)

_PLACE = re.compile(r"(?P<why>.*?)(?: - at `\$\.?(?P<place>[^`]*)`)?", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_LACKING = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)


def checked(value: Value) -> Value:
    """Return a value that was made here if it is within the bounds of its type. Raises InvalidRequest."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value), type=type(value))
    except msgspec.ValidationError as error:
        raise invalid(error) from error
    except UnicodeEncodeError as error:  # halves of characters, as terminals of another encoding send them
        raise InvalidRequest(say("some of the text is not Unicode", "部分文本不是有效的 Unicode")) from error


def invalid(error: msgspec.ValidationError) -> InvalidRequest:
    """Return what is wrong with a value that came from outside, by the name of the field at fault."""
    found = _PLACE.fullmatch(str(error))
    assert found is not None  # everything fits it
    why, place = found["why"], found["place"] or ""
    if unknown := _UNKNOWN.fullmatch(why):
        name = _within(place, unknown["name"])
        return InvalidRequest(
            say(f"{name}: there is nothing of this name here", f"{name}：没有此名称的字段或参数"), param=name
        )
    if lacking := _LACKING.fullmatch(why):
        name = _within(place, lacking["name"])
        return InvalidRequest(say(f"{name}: is missing", f"{name}：缺少此项"), param=name)
    name = place or say("the body", "请求体")
    return InvalidRequest(say(f"{name}: {_lower(why)}", f"{name}：{why}"), param=place or None)


def _within(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


# What a key is narrowed to


def network(text: str) -> str:
    """Return an address or a network in CIDR notation. Raises ValueError that says what to write."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(
                say("write an address or a network such as 10.0.0.0/8", "请写地址或网段，例如 10.0.0.0/8")
            ) from error
        raise ValueError(
            say(f"is an address within a network; the network is {meant}", f"是网段内的地址；该网段为 {meant}")
        ) from error


def networks(texts: Iterable[str]) -> tuple[str, ...]:
    """Return networks, each once. Raises InvalidRequest."""
    return tuple(dict.fromkeys(_named("addresses", text, network) for text in texts))


def ahead(at: datetime, now: datetime) -> datetime:
    """Return a time that is still to come. Raises ValueError for any other."""
    if at <= now:
        raise ValueError(say("is over already; give a later time", "已经过去；请给出更晚的时间"))
    return at


def expiry(at: datetime | None, now: datetime) -> datetime | None:
    """Return when a key stops to work, in UTC. Raises InvalidRequest for a time that is over."""
    return None if at is None else _named("expires_at", at.astimezone(UTC), lambda at: ahead(at, now))


Given = TypeVar("Given", str, datetime)


def _named(param: str, given: Given, read: Callable[[Given], Given]) -> Given:
    try:
        return read(given)
    except ValueError as error:
        raise InvalidRequest(f"{param} {str(given)!r}: {error}", param=param) from error


def patterns(given: Iterable[str], names: Sequence[str], own_names: Callable[[], Iterable[str]]) -> tuple[str, ...]:
    """Return patterns, each once. Raises InvalidRequest for one that is for no name: it would lock its key out of
    everything, or hide a slip of the pen.

    `own_names` are those of the operator's deployments, and are asked for only when the others do not do.
    """
    found = tuple(dict.fromkeys(given))
    unknown = [pattern for pattern in found if not matches(pattern, names)]
    own = tuple(own_names()) if unknown else ()
    for pattern in unknown:
        if not matches(pattern, own):
            hint = alike(pattern, names)
            raise InvalidRequest(
                say(f"model {pattern!r} matches no name: {hint}", f"模型 {pattern!r} 不匹配任何名称：{hint}"),
                param="models",
            )
    return found


def matches(pattern: str, names: Iterable[str]) -> bool:
    """Say whether a pattern is for at least one name."""
    return any(fnmatchcase(name, pattern) for name in names)


def alike(name: str, names: Iterable[str]) -> str:
    """Return a hint for a name that nobody knows: those that look like it, or where all are listed."""
    by_lower = {other.lower(): other for other in names}
    close = [by_lower[other] for other in difflib.get_close_matches(name.lower(), by_lower, n=3)]
    if not close:
        return say("`hanlin models` lists them", "`hanlin models` 列出全部名称")
    return say(f"did you mean {', '.join(close)}?", f"是否指 {'、'.join(close)}？")


# Limits


def changed_limits(old: Limits, change: LimitsChange) -> Limits:
    """Return limits with what was given in place of the old. Raises InvalidRequest for half of a budget.

    A budget keeps the amount, the currency and the period that it had, where no other is named.
    """
    counts = {name: getattr(change, name) for name in ("rpm", "tpm", "concurrency")}
    given = {name: count for name, count in counts.items() if count is not UNSET}
    budget = old.budget
    if change.budget is None:
        budget = None
    elif change.budget is not UNSET:
        budget = _changed_budget(old.budget, change.budget)
    return msgspec.structs.replace(old, **given, budget=budget)


def _changed_budget(old: Budget | None, change: BudgetChange) -> Budget:
    if old is None and change.nanos is UNSET:
        raise InvalidRequest(
            say(
                "there is no budget whose period or currency could change: give its amount, too",
                "尚无预算可供修改周期或币种：请同时给出金额",
            ),
            param="limits.budget.nanos",
        )
    given = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
    return Budget(**given) if old is None else msgspec.structs.replace(old, **given)


# Roles


def suffices(role: Role, needed: Role) -> bool:
    """Say whether a role may what another one may."""
    return ROLES.index(role) >= ROLES.index(needed)


def require(role: Role, needed: Role) -> None:
    """Let a key with a role do what needs one. Raises RoleAccessDenied."""
    if suffices(role, needed):
        return
    have_en, have_zh = (f"is {role!r}", f"为 {role!r}") if role else ("is none", "为空")
    raise RoleAccessDenied(
        say(
            f"This needs the role {needed!r}, and this key's role {have_en}. An owner, or `hanlin keys change ID "
            f"--role {needed}` on the home, gives it",
            f"此操作需要角色 {needed!r}，而该密钥的角色{have_zh}。可由 owner 授予，或在主目录所在机器上运行 "
            f"`hanlin keys change 编号 --role {needed}`",
        )
    )


def may_touch(role: Role, *roles: Role) -> None:
    """Let somebody make or change keys that have these roles. Raises RoleAccessDenied for all but owners."""
    if role != "owner" and any(roles):
        raise RoleAccessDenied(
            say(
                "Only an owner makes or changes keys that have a role",
                "只有 owner 可以创建或修改带角色的密钥",
            )
        )


def stays_owned(old: KeyRow, new: KeyRow, owners: Iterable[KeyRow], now: datetime) -> None:
    """Refuse to weaken the last key that owns the service. `owners` are the others that work.

    One that ends sooner, or works from fewer addresses, does not take its place. Raises InvalidRequest.
    """
    if old.role != "owner" or not old.works(now) or any(_is_as_good(owner, old) for owner in (new, *owners)):
        return
    raise InvalidRequest(
        say(
            f"{old.id}: is the last owner's key, and without it nobody could administer. Make another owner first; "
            "`hanlin keys` on the home does it without asking",
            f"{old.id}：是最后一个 owner 密钥，去掉后将无人能管理。请先创建另一个 owner 密钥；"
            "在主目录所在机器上用 `hanlin keys` 则不受此限",
        )
    )


def _is_as_good(owner: KeyRow, as_: KeyRow) -> bool:
    """Say whether a key owns the service for as long, and from everywhere, as another one that works."""
    if owner.role != "owner" or owner.revoked_at is not None:
        return False
    if owner.expires_at is not None and (as_.expires_at is None or owner.expires_at < as_.expires_at):
        return False
    return not owner.addresses or (bool(as_.addresses) and set(as_.addresses) <= set(owner.addresses))
