"""`hanlin prices`: what the list charges for a name, and the operator's own prices, in the version that they make."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.table import Table

from hanlin.catalogue import PriceTier, load
from hanlin.cli import show
from hanlin.cli.administering import Where, remotely, with_place
from hanlin.cli.help import examples
from hanlin.cli.model_views import short_count
from hanlin.cli.options import ConfigOption, JsonOption, effective
from hanlin.cli.tables import Column, Fitting, table
from hanlin.metering.prices import LIST_CURRENCY, PriceList
from hanlin.service.administration.steward import priced
from hanlin.service.administration.values import OwnPrices, PricesAsked
from hanlin.service.fleet import own_prices
from hanlin.words import say

PRICES_HELP = say(
    "Show the list prices of names, for a million tokens.\n\n"
    "A whole request is charged at one tier, by the length of its prompt. A stand-in's call costs nothing; its list "
    "price stands beside it in `hanlin usage`. Your own prices, [[price]] tables of hanlin.toml, stand below and come "
    "first. The version names all of them in every row of the ledger.",
    "显示各名称的官方价格（每百万 token）。\n\n"
    "每次请求按输入长度整体归入一档计费。由本机小模型代答的调用费用为零，其官方价在 `hanlin usage` 中并列显示。"
    "自定价格（hanlin.toml 的 [[price]] 表）列在其后并优先适用。账目的每一行都记有价目表版本。",
)
PRICES_EXAMPLES = examples("hanlin prices qwen-plus qwen3-max", "hanlin prices 'qwen3-*'", "hanlin prices --json")

_COLUMNS: tuple[tuple[str, tuple[str, str]], ...] = (
    ("input", ("in", "输入")),
    ("output", ("out", "输出")),
    ("output_thinking", ("thinking", "思考")),
    ("cached_input", ("cached", "缓存")),
    ("cache_create", ("create", "建缓存")),
    ("cache_hit", ("hit", "命中")),
    ("batch_input", ("batch in", "批量入")),
    ("batch_output", ("batch out", "批量出")),
    ("input_audio", ("audio in", "音频入")),
    ("input_vision", ("vision in", "视觉入")),
    ("output_multimodal_in", ("media out", "多模态出")),
    ("output_audio", ("audio out", "音频出")),
)
"""The kinds of tokens that have a price, most usual first."""

_FEW = 4  # the kinds that a narrow screen has room for


@with_place
def prices(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar=say("NAME", "名称"),
            help=say("Names, aliases or patterns (qwen3-*) [all].", "名称、别名或通配（qwen3-*）[全部]。"),
        ),
    ] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    *,
    place: Where,
) -> None:
    asked = PricesAsked(name=tuple(names or ()))
    if place.url:
        found = remotely(place, lambda administration: administration.prices(asked))
    else:
        catalogue = load()
        own = own_prices(effective(place.home, config).settings)
        found = priced(asked, catalogue, PriceList.of(catalogue, own))
    if as_json:
        show.data(found)
        return
    listed = {price.name: price.tiers for price in found.prices if price.tiers}
    if listed:
        show.page(view(listed))
    if found.own:
        show.page("")
        show.page(say("your own, by deployment", "自定价格，按部署"))
        show.page(view({_title(own): own.tiers for own in found.own}))
    if names and (unpriced := [price.name for price in found.prices if not price.tiers]):
        missing = ", ".join(unpriced)
        show.remark(say(f"Without a list price: {missing}.", f"无官方价格：{missing}。"))
    show.remark(
        say(
            f"¥ per million tokens unless stated; list {found.version}. --json has every kind of tokens.",
            f"元/百万 token（另注者除外）；价目表 {found.version}。--json 含所有计费项。",
        )
    )


def _title(own: OwnPrices) -> str:
    words = [own.deployment, *(() if own.names == ("*",) else (", ".join(own.names),))]
    return " ".join([*words, *(() if own.currency == LIST_CURRENCY else (own.currency,))])


def view(listed: Mapping[str, tuple[PriceTier, ...]]) -> RenderableType:
    """Return a line for each tier; kinds of tokens that no line has a price for are left out."""
    kinds = [
        (field, words)
        for field, words in _COLUMNS
        if any(getattr(tier, field) is not None for tiers in listed.values() for tier in tiers)
    ]
    counts = range(len(kinds), min(_FEW, len(kinds)) - 1, -1)
    return Fitting(*(_form(listed, kinds[:count]) for count in counts))


def _form(listed: Mapping[str, tuple[PriceTier, ...]], kinds: Sequence[tuple[str, tuple[str, str]]]) -> Table:
    columns = [
        Column(say("name", "名称")),
        Column(say("prompt", "输入长度"), whole=True),
        *(Column(say(*words), right=True) for _, words in kinds),
    ]
    return table(columns, _rows(listed, [field for field, _ in kinds]))


def _rows(listed: Mapping[str, tuple[PriceTier, ...]], fields: Sequence[str]) -> Iterator[list[str]]:
    for name, tiers in listed.items():
        for place, tier in enumerate(tiers):
            values = (getattr(tier, field) for field in fields)
            yield [
                name if place == 0 else "",
                _upto(tier),
                *("–" if value is None else f"{value:g}" for value in values),
            ]


def _upto(tier: PriceTier) -> str:
    upto = f"≤ {short_count(tier.up_to_tokens)}" if tier.up_to_tokens else say("any", "不限")
    return upto if tier.period is None else f"{upto} {tier.period}"
