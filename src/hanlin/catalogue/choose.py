"""Recommend models for a task said in plain words: what it is about, how long, at what price, and what runs here.

Pure and repeatable: the catalogue and what serves each name are arguments, and equal scores keep the catalogue's order.
"""

import math
from collections.abc import Callable

import msgspec

from hanlin.catalogue.models import Catalogue, Model, PriceTier, Status
from hanlin.catalogue.tasks import GENERAL, Task, Wish
from hanlin.types import Served
from hanlin.words import say

# Points. Fit decides first; among models that fit, capability and price, then lifecycle and what runs here.
_MADE_FOR = 100.0  # the first task that a model suits; each later one a tenth less
_SPECIALIST = 12.0  # it suits this task and no other
_GENERAL = 40.0  # a general model that does the task too
_SPEAKS = 30.0
_PER_GRADE = 6.0
_PER_TENFOLD_PRICE = 10.0
_PER_STATUS: dict[Status, float] = {"active": 6.0, "unknown": 0.0, "reported-retired": -20.0, "retired": -40.0}
_PER_SERVED = {
    Served.EXACT: 25.0,
    Served.CLOSEST: 15.0,
    Served.UPSTREAM: 15.0,
    Served.STAND_IN: 0.0,
    Served.UNAVAILABLE: -20.0,
}
_USUAL_TOKENS = 4_000  # the prompt that a price is compared at when the task names no length


class Recommendation(msgspec.Struct, frozen=True):
    """A model for the task, with its score (comparable within one answer only) and why, in the user's language."""

    model: Model
    served: Served
    score: float
    reasons: tuple[str, ...]


def choose(
    task: str, catalogue: Catalogue, *, served: Callable[[Model], Served], limit: int = 3
) -> list[Recommendation]:
    """Return at most `limit` models for a task such as "翻译合同" or "summarise 200 pages", the best first.

    Empty when nothing that the catalogue knows is long enough, or can do such a task at all.
    """
    wish = catalogue.tasks.understand(task)
    found = []
    for model in catalogue.models.values():
        if _eligible(model, wish):
            here = _honoured(served(model), wish)
            score = _fit(model, wish) + _taste(model, wish) + _PER_STATUS[model.lifecycle.status] + _PER_SERVED[here]
            found.append(Recommendation(model, here, round(score, 1), _reasons(model, wish, here)))
    found.sort(key=lambda one: -one.score)
    return _with_one_that_answers(_without_repeats(found, wish), limit)


def _with_one_that_answers(found: list[Recommendation], limit: int) -> list[Recommendation]:
    """Cut to the limit; when nothing above the cut answers here, its last place goes to the best one that does."""
    shown, rest = found[:limit], found[limit:]
    if limit > 1 and all(one.served is Served.UNAVAILABLE for one in shown):
        shown[limit - 1 :] = next(([one] for one in rest if one.served is not Served.UNAVAILABLE), shown[limit - 1 :])
    return shown


def _without_repeats(found: list[Recommendation], wish: Wish) -> list[Recommendation]:
    """Leave out names that offer what a better one offers already: rolling aliases, mostly."""
    offers = set()
    kept = []
    for one in found:
        tier = _price(one.model, wish)
        offer = (one.model.family, one.model.grade, one.model.suits, _blend(tier) if tier else one.model.name)
        if offer not in offers:
            offers.add(offer)
            kept.append(one)
    return kept


def _honoured(here: Served, wish: Wish) -> Served:
    """What serves a model, for this task: a stand-in reads and writes text and nothing else."""
    return Served.UNAVAILABLE if here is Served.STAND_IN and _beyond_text(wish) else here


def _beyond_text(wish: Wish) -> bool:
    return any(task.needs for task in wish.tasks)


def _eligible(model: Model, wish: Wish) -> bool:
    """Whether a model can do the task at all: it knows the trade, speaks the language and has the room."""
    special = [task.name for task in wish.tasks if not task.general]
    if special and not any(name in model.suits for name in special):
        return False
    if not special and not any(task.name in model.suits for task in wish.tasks) and GENERAL not in model.suits:
        return False
    if model.languages and not _speaks(model, wish):
        return False
    room = model.input_limit_tokens()
    return room is None or room >= wish.tokens


def _speaks(model: Model, wish: Wish) -> bool:
    return any(language.code in model.languages for language in wish.languages)


def _fit(model: Model, wish: Wish) -> float:
    """Points for the tasks, each counting half of the one before it, and for a language it was made for."""
    points = _SPEAKS if _speaks(model, wish) else 0.0
    for place, task in enumerate(wish.tasks):
        if task.name in model.suits:
            made_for = _MADE_FOR * (1 - 0.1 * model.suits.index(task.name))
            specialist = _SPECIALIST if len(model.suits) == 1 and task.name != GENERAL else 0.0
            points += (made_for + specialist) / 2**place
        elif task.general and GENERAL in model.suits:
            points += _GENERAL / 2**place
    return points


def _taste(model: Model, wish: Wish) -> float:
    """Points for capability, less those for the price, as the tasks together weigh them."""
    grade_weight = math.prod(task.grade_weight for task in wish.tasks)
    price_weight = math.prod(task.price_weight for task in wish.tasks)
    tier = _price(model, wish)
    price = _PER_TENFOLD_PRICE * math.log10(_blend(tier)) if tier is not None else 0.0
    return _PER_GRADE * model.grade * grade_weight - price * price_weight


def _price(model: Model, wish: Wish) -> PriceTier | None:
    return model.price(wish.tokens or _USUAL_TOKENS)


def _blend(tier: PriceTier) -> float:
    """One figure for a tier: three parts of input to one of output, as most calls are."""
    output = tier.output if tier.output is not None else tier.input
    return max((3 * tier.input + output) / 4, 0.01)


def _reasons(model: Model, wish: Wish, here: Served) -> tuple[str, ...]:
    reasons = [_why_it_fits(model, wish)]
    if _speaks(model, wish):
        names = "、".join(language.title for language in wish.languages if language.code in model.languages)
        reasons.append(say(f"made for {names}", f"专为{names}设计"))
    room = model.input_limit_tokens()
    if wish.tokens and room is not None:
        reasons.append(
            say(
                f"takes {room:,} tokens; the task needs about {wish.tokens:,}",
                f"可输入 {room:,} token，任务约需 {wish.tokens:,}",
            )
        )
    reasons.append(_price_words(_price(model, wish)))
    if (lifecycle := _lifecycle_words(model)) is not None:
        reasons.append(lifecycle)
    reasons.append(_served_words(model, here, wish))
    return tuple(reasons)


def _why_it_fits(model: Model, wish: Wish) -> str:
    if [task.name for task in wish.tasks] == [GENERAL]:
        return say("nothing in the task asks for a specialist", "任务没有特殊要求，通用模型即可")
    suited = [task for task in wish.tasks if task.name in model.suits]
    if suited:
        return say(f"good at {_list(suited)}", f"擅长{_list(suited)}")
    return say(f"a general model that does {_list(wish.tasks)} too", f"通用模型，也能胜任{_list(wish.tasks)}")


def _list(tasks: list[Task] | tuple[Task, ...]) -> str:
    return say(", ", "、").join(task.title for task in tasks)


def _price_words(tier: PriceTier | None) -> str:
    if tier is None:
        return say("no list price published", "官方未公布价格")
    if tier.output is None:
        return say(f"list price {tier.input:g} CNY per million tokens", f"官方价每百万 token {tier.input:g} 元")
    return say(
        f"list price {tier.input:g} in, {tier.output:g} out, CNY per million tokens",
        f"官方价每百万 token：输入 {tier.input:g} 元，输出 {tier.output:g} 元",
    )


def _lifecycle_words(model: Model) -> str | None:
    date = model.lifecycle.date
    match model.lifecycle.status:
        case "retired":
            return say(f"withdrawn by the vendor on {date}", f"官方已于 {date} 下线")
        case "reported-retired":
            return say(f"reported withdrawn on {date}", f"据称已于 {date} 下线")
        case _:
            return None


def _served_words(model: Model, here: Served, wish: Wish) -> str:
    match here:
        case Served.EXACT:
            return say("its own published weights run here", "此处运行其公开发布的权重")
        case Served.CLOSEST:
            return say("the nearest published weights run here", "此处运行与其最接近的公开权重")
        case Served.UPSTREAM:
            return say("an upstream answers for it", "由上游服务回答")
        case Served.STAND_IN:
            return say(
                "a stand-in answers here: for trying programs, not its quality",
                "此处由替身回答：可调试程序，不代表其质量",
            )
        case Served.UNAVAILABLE if model.open_weights and model.chats and not model.needs and not _beyond_text(wish):
            return say(f"not here yet: hanlin pull {model.name}", f"此处尚不可用：hanlin pull {model.name}")
        case Served.UNAVAILABLE:
            return say("not available here yet", "此处尚不可用")


__all__ = ["Recommendation", "choose"]
