"""`hanlin models`: what every name promises and what answers it here, and which name fits a task."""

import difflib
from typing import Annotated, Any

import msgspec
import typer

from hanlin.catalogue import Catalogue, Model, choose, load
from hanlin.cli import model_views, show
from hanlin.cli.availability import Availability, Here, availability
from hanlin.cli.help import ListFirst, Page, examples
from hanlin.cli.options import ConfigOption, HomeOption, JsonOption, KeyVariableOption, home_of
from hanlin.cli.show import Failed
from hanlin.types import Served
from hanlin.words import say

models = typer.Typer(
    name="models",
    cls=ListFirst,
    help=say(
        "What every name promises, what answers it here, and which one fits a task.\n\n"
        "Without a command it lists. A name is answered by the published weights of this name (exact), by the ones "
        "nearest to it (closest), by another server (upstream), by a small local model in its place (stand-in), or not "
        "at all (unavailable). A running service is asked; without one the settings tell.",
        "各名称的能力、此处由谁回答，以及哪个名称适合某项任务。\n\n"
        "不带子命令时列出全部。某个名称可能由其公开权重回答（exact）、由最接近的公开权重回答（closest）、"
        "由其他服务回答（upstream）、由本机小模型代答（stand-in），或无法回答（unavailable）。"
        "有服务运行时向其查询，否则依据设置得出。",
    ),
    epilog=examples(
        "hanlin models",
        "hanlin models qwen3 --served stand-in",
        "hanlin models show qwen-plus",
        say('hanlin models choose "translate a contract"', 'hanlin models choose "翻译合同"'),
    ),
)


@models.command(
    "list",
    cls=Page,
    help=say(
        "List the names, grouped by what they are for.\n\n"
        "A word is looked for in names, aliases, descriptions and features.",
        "按用途分组列出名称。\n\n关键词在名称、别名、说明与特性中查找。",
    ),
    epilog=examples("hanlin models coder", "hanlin models --family mt", "hanlin models --served unavailable --json"),
)
def list_models(
    word: Annotated[
        str, typer.Argument(metavar=say("WORD", "关键词"), help=say("Only what has this in it.", "仅列出包含它的。"))
    ] = "",
    served: Annotated[
        Served | None,
        typer.Option(
            "--served",
            metavar="KIND",
            help=say(f"Only names answered so: {', '.join(Served)}.", f"仅列出此类应答：{'、'.join(Served)}。"),
        ),
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(
            "--family", metavar="NAME", help=say("Only this family: max, coder, mt …", "仅列出此系列：max、coder、mt …")
        ),
    ] = None,
    home: HomeOption = None,
    config: ConfigOption = None,
    key_variable: KeyVariableOption = None,
    as_json: JsonOption = False,
) -> None:
    catalogue = load()
    if family is not None and family not in catalogue.families:
        known = ", ".join(catalogue.families)
        raise Failed(say(f"no family is called {family!r}: there are {known}", f"没有系列 {family!r}：现有 {known}"))
    here = availability(home_of(home), config, key_variable, catalogue)
    found = [
        model
        for model in catalogue.models.values()
        if (family is None or model.family == family)
        and (served is None or here.served(model) == served)
        and mentions(model, catalogue, word)
    ]
    if as_json:
        show.data([as_data(model, here.of(model.name)) for model in found])
        return
    if found:
        show.page(model_views.table(found, catalogue, here))
    else:
        show.note(say("no name fits; `hanlin models` lists all", "没有符合的名称；`hanlin models` 列出全部"))
    _say_where_from(here)


@models.command(
    "show",
    cls=Page,
    help=say(
        "Show everything that a name promises, and what answers it here.",
        "显示某个名称的全部能力，以及此处由谁回答。",
    ),
    epilog=examples("hanlin models show qwen3-max", "hanlin models show deepseek-v3.2 --json"),
)
def show_model(
    name: Annotated[str, typer.Argument(metavar=say("NAME", "名称"), help=say("A name or an alias.", "名称或别名。"))],
    home: HomeOption = None,
    config: ConfigOption = None,
    key_variable: KeyVariableOption = None,
    as_json: JsonOption = False,
) -> None:
    catalogue = load()
    model = known(name, catalogue)
    here = availability(home_of(home), config, key_variable, catalogue)
    if as_json:
        show.data(as_data(model, here.of(name)))
        return
    show.page(model_views.card(name, model, catalogue, here.of(name)))
    _say_where_from(here)


@models.command(
    "choose",
    cls=Page,
    help=say(
        "Recommend models for a task, with the reasons.\n\n"
        "Say it in your own words, in English or Chinese: what it is about, how long the text is, which languages. "
        "Fit counts first, then capability, price and what is answered here.",
        "为任务推荐模型，并说明理由。\n\n"
        "用自己的话描述即可（中英文均可）：做什么、文本多长、哪些语言。首先看是否适合，其次看能力、价格与此处是否可用。",
    ),
    epilog=examples(
        say("hanlin models choose translate a contract", "hanlin models choose 翻译合同"),
        say('hanlin models choose "summarise 200 pages, cheaply"', 'hanlin models choose "总结20万字的小说"'),
    ),
)
def choose_model(
    task: Annotated[
        list[str], typer.Argument(metavar=say("TASK", "任务"), help=say("The task, in your words.", "任务描述。"))
    ],
    limit: Annotated[
        int, typer.Option("--limit", "-n", metavar="N", min=1, help=say("How many at most [3].", "最多几个 [3]。"))
    ] = 3,
    home: HomeOption = None,
    config: ConfigOption = None,
    key_variable: KeyVariableOption = None,
    as_json: JsonOption = False,
) -> None:
    catalogue = load()
    wanted = " ".join(task)
    here = availability(home_of(home), config, key_variable, catalogue)
    tokens = catalogue.tasks.understand(wanted).tokens
    found = choose(wanted, catalogue, served=lambda model: here.served_at(model, tokens), limit=limit)
    if as_json:
        show.data(
            [
                {"score": one.score, "reasons": one.reasons, **as_data(one.model, here.of(one.model.name))}
                for one in found
            ]
        )
        return
    if not found:
        raise Failed(
            say(
                f"no model that Hanlin knows can do this: {wanted!r}. Say it more simply, or name a shorter text",
                f"没有已知模型能完成：{wanted!r}。请换一种说法，或缩短文本",
            )
        )
    show.page(model_views.recommendations(found, here, tokens))
    _say_where_from(here)


def mentions(model: Model, catalogue: Catalogue, word: str) -> bool:
    """Say whether a word stands in what is known about a model; an empty one always does."""
    texts = (
        *(model.name, *model.aliases, model.description, model.family, *model.features),
        *(catalogue.families[model.family].en, catalogue.families[model.family].zh),
    )
    return any(word.casefold() in text.casefold() for text in texts)


def known(name: str, catalogue: Catalogue) -> Model:
    """Return the model of a name or alias. Raises Failed, with the names that look like it."""
    model = catalogue.find(name)
    if model is not None:
        return model
    by_lower = {other.lower(): other for other in catalogue.names()}
    close = [by_lower[other] for other in difflib.get_close_matches(name.lower(), by_lower, n=3)]
    hint = (
        say(f"did you mean {', '.join(close)}?", f"是否指 {'、'.join(close)}？")
        if close
        else say("`hanlin models` lists all", "`hanlin models` 列出全部")
    )
    raise Failed(say(f"no model is called {name!r}: {hint}", f"没有名为 {name!r} 的模型：{hint}"))


def as_data(model: Model, here: Here) -> dict[str, Any]:
    """Return a model's row of the catalogue with what answers it, for programs."""
    return {**msgspec.to_builtins(model), "here": msgspec.to_builtins(here)}


def _say_where_from(here: Availability) -> None:
    if here.note:
        show.remark(here.note)
