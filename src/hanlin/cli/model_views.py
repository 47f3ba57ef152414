"""How models look on a terminal: the list, one model in full, recommendations. Values in, renderables out."""

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hanlin.catalogue import Catalogue, Model, PriceTier, Recommendation
from hanlin.cli.availability import Availability, Here
from hanlin.cli.banner import STYLES, meaning
from hanlin.cli.prose import Prose
from hanlin.service.deployments import remedy
from hanlin.types import Served
from hanlin.words import say

_USUAL_TOKENS = 4_000  # the prompt whose price stands in the list


def table(models: Sequence[Model], catalogue: Catalogue, here: Availability) -> RenderableType:
    """Return the list: a block for each family, a line for each name, and what the words in it mean.

    Its columns fit 80 cells with the longest name that the catalogue has. Prices are per million tokens.
    """
    rows = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    rows.add_column(say("name", "名称"), no_wrap=True)
    rows.add_column(say("here", "应答"), no_wrap=True)
    rows.add_column(say("context", "上下文"), justify="right", no_wrap=True)
    rows.add_column(say("thinks", "思考"), no_wrap=True)
    rows.add_column(say("¥ in/out", "¥ 入/出"), justify="right", no_wrap=True)
    rows.add_column(say("vendor", "官方"), no_wrap=True)
    order = {name: place for place, name in enumerate(catalogue.families)}
    family = ""
    for model in sorted(models, key=lambda model: order[model.family]):
        if model.family != family:
            family = model.family
            rows.add_row(Text.assemble((f"{family}", "bold"), (f"  {catalogue.families[family].title}", "dim")))
        served = here.served(model)
        rows.add_row(
            f" {model.name}",
            Text(served, STYLES[served]),
            short_count(model.context_tokens),
            _thinks(model),
            short_price(model.price(_USUAL_TOKENS)),
            Text(_status(model), "dim"),
        )
    prices = say("¥: list price per million tokens", "¥：每百万 token 官方价")
    return Group(rows, Text(""), _legend(models, here), *_unwell(models, here), Prose(prices, "dim"))


def _unwell(models: Sequence[Model], here: Availability) -> Iterator[RenderableType]:
    """Say of each deployment that would not answer a call at the moment how it is, and why."""
    states = dict.fromkeys((each.by, each.state, each.reason) for each in (here.of(model.name) for model in models))
    for by, state, reason in states:
        if state not in ("", "ready"):
            yield Text.assemble((f"{by}: ", "bold"), (state, "yellow"), f"  {reason}" if reason != state else "")


def _legend(models: Sequence[Model], here: Availability) -> RenderableType:
    counts = Counter(here.served(model) for model in models)
    legend = Table.grid(padding=(0, 1))
    legend.add_column(justify="right")
    legend.add_column(no_wrap=True)
    legend.add_column()
    for served in Served:
        if counts[served]:
            legend.add_row(str(counts[served]), Text(served, STYLES[served]), Prose(meaning(served), "dim"))
    return legend


def card(name: str, model: Model, catalogue: Catalogue, here: Here) -> RenderableType:
    """Return everything about one name: what answers it, what it promises, what it costs, where this is from."""
    title = Text.assemble((name, "bold cyan"), f"  {catalogue.owners[model.owner]}")
    blocks: list[RenderableType] = [title, Prose(model.description), Text("")]
    blocks += [_facts(_here(name, model, here)), Text(""), _facts(_promises(model, catalogue))]
    if model.prices:
        blocks += [Text(""), _prices(model.prices)]
    return Group(*blocks, Text(""), _facts(_origins(name, model)))


def _facts(rows: Iterator[tuple[str, str | Text]]) -> Table:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for label, value in rows:
        facts.add_row(label, Prose(value) if isinstance(value, str) else value)
    return facts


def _here(name: str, model: Model, here: Here) -> Iterator[tuple[str, str | Text]]:
    served = here.served
    yield say("here", "应答"), Text.assemble((served, STYLES[served]), f"  {meaning(served)}")
    if here.by:
        context = say(f", {here.context_tokens:,} tokens of context", f"，上下文 {here.context_tokens:,} token")
        yield say("answered by", "由谁回答"), f"{here.by}{context if here.context_tokens else ''}"
    if here.state:
        yield say("state", "状态"), here.state if here.reason in ("", here.state) else f"{here.state}: {here.reason}"
    if here.why:
        yield say("because", "原因"), here.why
    if served is Served.UNAVAILABLE:
        yield say("remedy", "办法"), remedy(model)
    elif served is Served.STAND_IN and model.open_weights and not model.needs:
        own = model.open_weights_match == "exact"
        label = say("its own weights", "自身权重") if own else say("nearest weights", "最接近的权重")
        yield label, f"hanlin pull {name} && hanlin serve --weights {name}"


def _promises(model: Model, catalogue: Catalogue) -> Iterator[tuple[str, str | Text]]:
    yield say("good at", "擅长"), say(", ", "、").join(catalogue.tasks.by_name[task].title for task in model.suits)
    if model.languages:
        yield say("languages", "语种"), ", ".join(model.languages)
    yield say("context", "上下文"), _limits(model)
    yield say("thinking", "思考"), _thinking(model)
    modalities = f"{', '.join(model.input_modalities)} → {', '.join(model.output_modalities)}"
    yield say("input → output", "输入 → 输出"), modalities
    for place, feature in enumerate(model.features):
        label = say("features", "特性") if place == 0 else ""
        yield label, Text.assemble(feature, (f"  {catalogue.features[feature]}", "dim"))
    if model.rpm or model.tpm:
        yield say("limits", "限流"), f"{_count(model.rpm)} RPM, {_count(model.tpm)} TPM"
    if model.chats:
        yield say("sampling", "采样默认值"), _sampling(model, catalogue)


def _origins(name: str, model: Model) -> Iterator[tuple[str, str | Text]]:
    others = [other for other in (model.name, *model.aliases) if other != name]
    if others:
        yield say("also called", "别名"), ", ".join(others)
    if model.open_weights:
        yield say("open weights", "公开权重"), f"{model.open_weights} ({model.open_weights_match})"
    if model.lifecycle.status != "unknown":
        parts = (model.lifecycle.status, model.lifecycle.date, model.lifecycle.source)
        yield say("vendor", "官方"), " ".join(str(part) for part in parts if part)
    if model.unconfirmed:
        yield say("unconfirmed", "未经证实"), ", ".join(model.unconfirmed)
    if model.notes:
        yield say("notes", "备注"), model.notes
    yield say("source", "来源"), Text(f"{model.source} ({model.as_of})", "dim")


def _limits(model: Model) -> str:
    pairs = (
        (say("prompt", "输入"), model.max_input_tokens),
        (say("answer", "输出"), model.max_output_tokens),
        (say("reasoning", "思考"), model.max_reasoning_tokens),
        (say("prompt while thinking", "思考时输入"), model.max_input_tokens_thinking),
        (say("answer while thinking", "思考时输出"), model.max_output_tokens_thinking),
    )
    listed = say(", ", "，").join(f"{label} {limit:,}" for label, limit in pairs if limit)
    total = _count(model.context_tokens)
    return say(f"{total} tokens: {listed}", f"{total} token：{listed}") if listed else f"{total} token"


def _thinking(model: Model) -> str:
    text = {
        "none": say("does not think", "不思考"),
        "hybrid-default-off": say("when asked to (enable_thinking)", "按需思考（enable_thinking）"),
        "hybrid-default-on": say("unless told not to (enable_thinking)", "默认思考，可关闭（enable_thinking）"),
        "only": say("always", "始终思考"),
    }[model.thinking]
    streamed = {
        "always": say("; streams only", "；仅支持流式"),
        "thinking": say("; streams only while thinking", "；思考时仅支持流式"),
    }.get(model.stream_only or "", "")
    return text + streamed


def _sampling(model: Model, catalogue: Catalogue) -> str:
    defaults = catalogue.sampling(model, thinking=model.thinking == "only")
    pairs = ((name, getattr(defaults, name)) for name in defaults.__struct_fields__)
    return ", ".join(f"{name} {value:g}" for name, value in pairs if value is not None)


_PRICES = (
    ("input", ("input", "输入")),
    ("output", ("output", "输出")),
    ("output_thinking", ("output, thinking", "思考输出")),
    ("cached_input", ("cached", "缓存命中")),
    ("cache_create", ("cache create", "创建缓存")),
    ("cache_hit", ("cache hit", "显式命中")),
    ("batch_input", ("batch in", "批量输入")),
    ("batch_output", ("batch out", "批量输出")),
    ("input_audio", ("audio in", "音频输入")),
    ("input_vision", ("vision in", "视觉输入")),
    ("output_multimodal_in", ("output, media in", "多模态时输出")),
    ("output_audio", ("audio out", "音频输出")),
)


def _prices(tiers: Sequence[PriceTier]) -> Table:
    """Return the list prices: a line for each kind that is charged, a column for each tier."""
    prices = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    prices.add_column(say("¥ per million tokens", "每百万 token 价格（元）"))
    for tier in tiers:
        upto = (
            say(f"≤ {short_count(tier.up_to_tokens)}", f"≤ {short_count(tier.up_to_tokens)}")
            if tier.up_to_tokens
            else ""
        )
        prices.add_column(" ".join(part for part in (upto or say("any length", "不限长度"), tier.period) if part))
    for field, words in _PRICES:
        values = [getattr(tier, field) for tier in tiers]
        if any(value is not None for value in values):
            prices.add_row(say(*words), *("" if value is None else f"{value:g}" for value in values))
    return prices


def recommendations(found: Sequence[Recommendation], here: Availability, tokens: int) -> RenderableType:
    """Return the models in order, the reasons under each, and the call that tries the first one that answers.

    `tokens` is the length of the task; what answers here may have less room than the name promises.
    """
    blocks: list[RenderableType] = []
    for place, one in enumerate(found, start=1):
        blocks.append(
            Text.assemble((f"{place}. {one.model.name}", "bold cyan"), "  ", (one.served, STYLES[one.served]))
        )
        blocks.append(Padding(Prose(one.model.description, "dim"), (0, 0, 0, 3)))
        reasons = [*one.reasons]
        if here.lacks_room(one.model, tokens):
            room = here.of(one.model.name).context_tokens
            reasons.append(say(f"what answers here takes {room:,} tokens only", f"此处的应答者仅支持 {room:,} token"))
        blocks += [Padding(Prose(f"· {reason}"), (0, 0, 0, 3)) for reason in reasons]
    answers = next((one for one in found if one.served is not Served.UNAVAILABLE), None)
    if answers is not None:
        call = f"hanlin chat --model {answers.model.name}"
        blocks += [Text(""), Text.assemble((say("try it: ", "试一试："), "bold"), call)]
    return Group(*blocks)


def short_count(tokens: int | None) -> str:
    """Write a count of tokens as people do: 128K, 1M; "?" when unknown. 1K is 1024 where it comes out even."""
    if tokens is None:
        return "?"
    for unit, sizes in (("M", (1_000_000, 1_048_576)), ("K", (1024, 1000))):
        for size in sizes:
            if tokens >= size and tokens % size == 0:
                return f"{tokens // size}{unit}"
    return (
        f"{tokens / 1_000_000:.3g}M"
        if tokens >= 1_000_000
        else f"{tokens / 1000:.3g}K"
        if tokens >= 1000
        else str(tokens)
    )


def short_price(tier: PriceTier | None) -> str:
    """Write a price as input/output."""
    if tier is None:
        return "–"
    return f"{tier.input:g}" if tier.output is None else f"{tier.input:g}/{tier.output:g}"


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _thinks(model: Model) -> str:
    return {
        "none": "–",
        "hybrid-default-off": say("can", "可选"),
        "hybrid-default-on": say("yes", "默认"),
        "only": say("always", "始终"),
    }[model.thinking]


def _status(model: Model) -> str:
    return {"retired": say("ended", "下线"), "reported-retired": say("ended?", "下线？")}.get(
        model.lifecycle.status, ""
    )
