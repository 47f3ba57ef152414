"""A key that somebody put where none belongs: what is said about it does not repeat it."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from hanlin.catalogue import load as load_catalogue
from hanlin.cli.config import described, view
from hanlin.errors import StartupError
from hanlin.service.fleet import stated
from hanlin.settings import load
from tests import planted

MISPLACED = list(planted.misplaced())


@pytest.mark.parametrize("content", MISPLACED, ids=range(len(MISPLACED)))
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_file_with_a_misplaced_key_is_refused_without_repeating_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, language: str
) -> None:
    """It is on a screen, in a unit's log or in a bug report next."""
    monkeypatch.setenv("HANLIN_LANG", language)
    file = tmp_path / "hanlin.toml"
    file.write_text(content, encoding="utf-8")

    with pytest.raises(StartupError) as refusal:
        stated(load(file, {}).settings, load_catalogue(), {})

    assert not planted.found("the message", str(refusal.value).encode(), planted.KEYS)


@pytest.mark.parametrize("content", MISPLACED, ids=range(len(MISPLACED)))
def test_the_page_of_settings_does_not_show_a_misplaced_key(tmp_path: Path, content: str) -> None:
    """The page is what people paste into a bug report, and it is shown of files that would not start."""
    file = tmp_path / "hanlin.toml"
    file.write_text(content, encoding="utf-8")
    try:
        rows = described(load(file, {}))
    except StartupError:
        return  # it is refused before it could be shown
    console = Console(width=300, file=io.StringIO())
    with console.capture() as page:
        console.print(view("/srv/hanlin", str(file), rows))

    assert not planted.found("the page", f"{rows}{page.get()}".encode(), planted.KEYS)
