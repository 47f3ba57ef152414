"""Help pages and usage errors in the user's language: what a command does, its options, examples to paste.

Typer parses; its own pages know English only, cut Chinese at the edge of a narrow terminal, and have no examples.
"""

import re
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from hanlin.cli import show
from hanlin.cli.prose import Prose
from hanlin.words import is_chinese, say

HELP_OPTIONS = ["-h", "--help"]


def examples(*lines: str) -> str:
    """Return the end of a help page: calls that work as they stand, one a line."""
    return "\n".join(lines)


class Page(TyperCommand):
    """A command whose `--help` is our page; its epilog holds the examples."""

    # The parser does not publish the classes of contexts and formatters.
    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        show.out.print(_page(self, ctx))


class Menu(TyperGroup):
    """A group of commands, with the same page."""

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002
        show.out.print(_page(self, ctx))


class ListFirst(Menu):
    """A group that means its command `list` where no command is named: `hanlin models qwen3` lists."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in HELP_OPTIONS):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def _page(command: TyperCommand | TyperGroup, ctx: Any) -> RenderableType:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.get_params(ctx) if parameter.param_type_name == "option"]
    title, _, rest = (command.help or "").partition("\n\n")
    blocks: list[RenderableType] = [Text(_usage(command, ctx, arguments), "bold"), Text(""), Prose(title)]
    if rest:
        blocks += [Text(""), Prose(rest, "dim")]
    if isinstance(command, TyperGroup):
        helps = ((name, command.commands[name].help or "") for name in command.list_commands(ctx))
        blocks += _section(say("Commands", "命令"), [(name, text.partition("\n\n")[0]) for name, text in helps])
    blocks += _section(say("Arguments", "参数"), [(_name(one), _sentence(one)) for one in arguments])
    blocks += _section(say("Options", "选项"), [(_flags(one), _sentence(one)) for one in options])
    if command.epilog:
        lines = [Text(line, style="green", overflow="fold") for line in command.epilog.splitlines()]
        blocks += [Text(""), Text(say("Examples", "示例"), style="bold"), Padding(Group(*lines), (0, 0, 0, 2))]
    return Group(*blocks)


def _usage(command: TyperCommand | TyperGroup, ctx: Any, arguments: Iterable[Any]) -> str:
    pieces = [say("[OPTIONS]", "[选项]")]
    for argument in arguments:
        name = _name(argument) + ("…" if argument.nargs != 1 else "")
        pieces.append(name if argument.required else f"[{name}]")
    if isinstance(command, TyperGroup):
        pieces = [say("COMMAND …", "命令 …")]
    return f"{say('Usage', '用法')}: {ctx.command_path} {' '.join(pieces)}"


def _section(title: str, rows: list[tuple[str, str]]) -> list[RenderableType]:
    if not rows:
        return []
    table = Table.grid(padding=(0, 2))
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, sentence in rows:
        table.add_row(Text(name), Prose(sentence))
    return [Text(""), Text(title, style="bold"), Padding(table, (0, 0, 0, 2))]


def _name(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name.upper())


def _flags(option: Any) -> str:
    names = sorted(option.opts, key=len) + list(option.secondary_opts)
    value = "" if option.is_flag else f" {_name(option)}"
    return ", ".join(names) + value


def _sentence(parameter: Any) -> str:
    if HELP_OPTIONS[-1] in parameter.opts:
        return say("Show this page.", "显示本页。")
    return str(parameter.help or "")


# What the parser says about a wrong call, and how it is said in Chinese.
_IN_CHINESE = (
    (r"No such option: (\S+).*?(?:\(Possible options: (.*)\))?$", "没有选项 {0}"),
    (r"No such command '(.*?)'.*", "没有命令 {0}"),
    (r"Missing command.*", "缺少命令"),
    (r"Missing \w+ '(.*?)'.*", "缺少 {0}"),
    (r"Option '(.*?)' requires an argument.*", "选项 {0} 需要一个值"),
    (r"Option '(.*?)' does not take a value.*", "选项 {0} 不带值"),
    (r"Got unexpected extra argument\(s\) \((.*)\)", "多余的参数：{0}"),
    (r"Invalid value for (.*?): .* is not one of (.*)", "{0} 的值无效：应为 {1} 之一"),
    (r"Invalid value for (.*?): Input should be greater than or equal to (.*)", "{0} 的值无效：不得小于 {1}"),
    (r"Invalid value for (.*?): Input should be a valid integer.*", "{0} 的值无效：应为整数"),
    (r"Invalid value for (.*?): (.*)", "{0} 的值无效：{1}"),
)


def usage_error(error: typer.TyperException) -> str:
    """Return what is wrong with a call, and where its help page is."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "hanlin"
    message = error.format_message().rstrip(".").replace("Value error, ", "")
    if is_chinese():
        message = next(
            (words.format(*found.groups()) for wrong, words in _IN_CHINESE if (found := re.fullmatch(wrong, message))),
            message,
        )
    return say(f"{message}. See `{command} --help`", f"{message}。请看 `{command} --help`")


__all__ = ["HELP_OPTIONS", "ListFirst", "Menu", "Page", "examples", "usage_error"]
