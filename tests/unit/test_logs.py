"""Log lines, for people and for machines."""

import json
import logging
import sys
from collections.abc import Iterator

import pytest

from hanlin.logs import JsonLines, TextLines, set_up


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Put the root logger back as pytest wants it."""
    root, ours = logging.getLogger(), logging.getLogger("hanlin")
    handlers, level, our_level = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(our_level)


def record(message: str = "读了 %d 行", *values: object, failed: bool = False) -> logging.LogRecord:
    """Return a warning of the room `http`, with a traceback when it failed."""
    trace = None
    if failed:
        try:
            raise ValueError("no such row")
        except ValueError:
            trace = sys.exc_info()
    return logging.LogRecord("hanlin.http", logging.WARNING, "file.py", 1, message, values or (3,), trace)


def test_a_line_for_people_says_when_how_bad_where_and_what() -> None:
    """The package's own name would stand in every line."""
    line = TextLines().format(record())

    clock, rest = line.split(" ", 1)
    assert len(clock) == 8
    assert rest == "WARNING http: 读了 3 行"


def test_a_line_for_machines_is_one_json_object() -> None:
    """Whatever the message holds: a line end in it must not make a second line."""
    line = JsonLines().format(record("a\n%s", "“b”"))

    assert "\n" not in line
    fields = json.loads(line)
    assert isinstance(fields.pop("time"), float)
    assert fields == {"level": "warning", "room": "hanlin.http", "message": "a\n“b”"}


def test_both_carry_the_traceback_of_a_failure() -> None:
    """What failed is of no use without where."""
    text, line = TextLines().format(record(failed=True)), json.loads(JsonLines().format(record(failed=True)))

    assert text.splitlines()[0].endswith("http: 读了 3 行")
    assert text.endswith("ValueError: no such row")
    assert line["traceback"].endswith("ValueError: no such row")


@pytest.mark.parametrize(("form", "start"), [("text", ""), ("json", "{")])
def test_lines_go_to_stderr_in_the_form_that_was_asked_for(
    form: str, start: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stdout is for answers: it can be piped."""
    set_up(form, "info")

    logging.getLogger("hanlin.test").info("said")

    out, err = capsys.readouterr()
    assert out == ""
    assert "said" in err
    assert err.startswith(start)


def test_the_level_is_for_our_own_rooms_and_libraries_are_heard_from_warnings_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Their debugging would drown ours."""
    set_up("text", "debug")

    logging.getLogger("hanlin.test").debug("ours")
    logging.getLogger("library").info("theirs")
    logging.getLogger("library").warning("their warning")

    err = capsys.readouterr().err
    assert "ours" in err
    assert "their warning" in err
    assert "theirs" not in err
