"""Help pages: every command teaches, in both languages; wrong calls are told so in the user's."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache

import pytest
import typer.main
from rich.cells import cell_len
from typer.core import TyperGroup

from hanlin.cli.help import usage_error
from hanlin.cli.main import app

LANGUAGES = ("en", "zh")

# Sentences are chosen when the modules are loaded: each language takes a process of its own.
ALL_PAGES = """
import contextlib, io, json, sys
import typer.main
from hanlin.cli import show
from hanlin.cli.main import app

def pages(command, path):
    with show.out.capture() as page:
        command.make_context(" ".join(path), [], resilient_parsing=True).get_help()
    yield " ".join(path), page.get()
    for name, known in getattr(command, "commands", {}).items():
        yield from pages(known, [*path, name])

json.dump(dict(pages(typer.main.get_group(app), ["hanlin"])), sys.stdout)
"""


@cache
def pages(language: str) -> Mapping[str, str]:
    """Return every help page by its command, as on a terminal of 80 columns."""
    environment = {**os.environ, "HANLIN_LANG": language, "COLUMNS": "80"}
    done = subprocess.run(
        [sys.executable, "-c", ALL_PAGES], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def commands() -> list[str]:
    def paths(command: object, path: str) -> list[str]:
        inner = command.commands if isinstance(command, TyperGroup) else {}
        return [path, *(found for name, known in inner.items() for found in paths(known, f"{path} {name}"))]

    return paths(typer.main.get_group(app), "hanlin")


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)


@pytest.mark.parametrize("command", commands())
def test_every_command_has_a_page_with_examples_in_both_languages(command: str) -> None:
    """The first thing that people read is often the last: it has to show a call that works."""
    english, chinese = (pages(language)[command] for language in LANGUAGES)

    assert "Usage: " in english
    assert "用法: " in chinese
    for page, title in ((english, "Examples"), (chinese, "示例")):
        _, _, shown = page.partition(title)
        assert "hanlin " in shown, page
    assert is_chinese(chinese.partition("示例")[0].partition("\n")[2])
    # The name of the house, and questions in the examples, are all the Chinese of an English page.
    assert not is_chinese(english.partition("Examples")[0].replace("翰林", ""))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_option_has_its_sentence(language: str) -> None:
    """An option that nobody explains is one that nobody uses."""
    for command, page in pages(language).items():
        for line in page.splitlines():
            if line.startswith("  -"):
                assert len(line.split("  ", 2)[-1].strip()) > 3, f"{command}: {line}"


@pytest.mark.parametrize("language", LANGUAGES)
def test_pages_fit_a_terminal_of_80_columns(language: str) -> None:
    """Nothing is cut at the edge, also where a Chinese character takes two columns."""
    for command, page in pages(language).items():
        assert "…\n" not in page.partition("\n")[2], command
        assert max(map(cell_len, page.splitlines())) <= 80, command


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_first_page_lists_the_commands_and_the_exit_codes(language: str) -> None:
    """A script's author looks there first."""
    page = pages(language)["hanlin"]

    names = ["serve", "chat", "ask", "models", "pull", "doctor", "config", "keys", "workspaces", "usage", "prices"]
    order = [page.index(f"\n  {name} ") for name in names]
    assert order == sorted(order)
    assert "130" in page


def wrong(*arguments: str) -> typer.TyperException:
    with pytest.raises(typer.TyperException) as caught:
        app(list(arguments), prog_name="hanlin", standalone_mode=False)
    return caught.value


@pytest.mark.parametrize(
    ("arguments", "english", "chinese"),
    [
        (("serve", "--prot"), "No such option: --prot", "没有选项 --prot"),
        (("srve",), "No such command 'srve'", "没有命令 srve"),
        (("keys", "revoke"), "Missing argument 'ID'", "缺少 ID"),
        (("keys", "list", "x"), "Got unexpected extra argument(s) (x)", "多余的参数：x"),
        (("serve", "--port"), "Option '--port' requires an argument", "选项 --port 需要一个值"),
        (("doctor", "--json=1"), "Option '--json' does not take a value", "选项 --json 不带值"),
        (("models", "list", "--served", "x"), "'x' is not one of 'exact'", "应为 'exact'"),
        (("models", "choose", "x", "--limit", "0"), "greater than or equal to 1", "不得小于 1"),
        (("models", "choose", "x", "--limit", "x"), "a valid integer", "应为整数"),
    ],
)
def test_a_wrong_call_is_told_what_is_wrong_and_where_to_read(
    arguments: tuple[str, ...], english: str, chinese: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typer knows English only."""
    error = wrong(*arguments)

    monkeypatch.setenv("HANLIN_LANG", "en")
    in_english = usage_error(error)
    monkeypatch.setenv("HANLIN_LANG", "zh")
    in_chinese = usage_error(error)

    assert error.exit_code == 2
    assert english in in_english
    assert "See `hanlin" in in_english
    assert chinese in in_chinese
    assert "请看 `hanlin" in in_chinese
