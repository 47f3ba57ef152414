"""Tables that fit the screen."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from hanlin.cli import show
from hanlin.cli.tables import Column, Fitting, table

FULL = (Column("name"), Column("tokens", right=True), Column("cost", right=True))


def printed(fitting: Fitting, width: int) -> list[str]:
    console = Console(width=width, file=io.StringIO())
    with console.capture() as page:
        console.print(fitting)
    return page.get().splitlines()


def fitting() -> Fitting:
    rich = table(FULL, [("qwen-plus", "1,234,567", "12.3456")], [("total", "1,234,567", "12.3456")])
    poor = table(FULL[::2], [("qwen-plus", "12.3456")], [("total", "12.3456")])
    return Fitting(rich, poor)


def test_the_richest_form_that_fits_is_shown() -> None:
    """What a wide screen has room for, a narrow one leaves out."""
    assert printed(fitting(), 29)[0].split() == ["name", "tokens", "cost"]
    assert printed(fitting(), 28)[0].split() == ["name", "cost"]


@pytest.mark.parametrize("width", range(7, 19))
def test_no_digit_is_lost_where_nothing_fits(width: int) -> None:
    """A number without its last digits is another number; broken into lines it is only ugly."""
    lines = printed(fitting(), width)

    digits = sorted(character for line in lines for character in line if character.isdigit())
    assert digits == sorted("123456" * 2)
    assert all(cell_len(line) <= width for line in lines)


def test_totals_stand_below_a_line_as_wide_as_each_column() -> None:
    """So that they are not taken for a row."""
    assert printed(fitting(), 80)[2].rstrip() == "─────────  ─────────  ───────"


def test_what_a_terminal_would_obey_is_left_out() -> None:
    """Names come from whoever may make keys."""
    (_, line) = printed(Fitting(table((Column("name"),), [("\x1b[2J\x07a[bold]b",)])), 80)

    assert line.strip() == "[2Ja[bold]b"


def test_a_long_export_shows_how_far_it_is_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file of errors a bar would be noise, as it would be for what is there at once."""
    for terminal, pages, bar in ((True, 2, True), (True, 1, False), (False, 2, False)):
        out = io.StringIO()
        monkeypatch.setattr(show, "err", Console(file=out, force_terminal=terminal, width=80))
        with show.counting(400) as counted:
            for page in range(pages):
                counted(400 // pages, page == pages - 1)

        assert ("400/400" in out.getvalue()) == bar
        assert bool(out.getvalue()) == bar
