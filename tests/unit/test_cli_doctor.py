"""What the doctor gathers on this machine, and how its findings look."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from hanlin.cli.doctor import gather, view
from hanlin.home import Home, lock, prepare
from hanlin.service.diagnosis import Finding, Level, diagnose
from hanlin.testing import free_port


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")
    monkeypatch.setenv("HANLIN_PORT", str(free_port()))
    monkeypatch.setenv("HANLIN_EMBEDDED", "false")
    for name in ("HANLIN_API_KEY", "DASHSCOPE_API_KEY", "HANLIN_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def test_a_home_that_does_not_exist_yet_is_looked_at_and_not_made(tmp_path: Path) -> None:
    """Asking for a diagnosis must not leave traces."""
    home = Home(tmp_path / "not" / "here")

    facts = gather(home, None)

    assert (facts.home_problem, facts.port_problem, facts.settings_problem) == ("", "", "")
    assert facts.keys.working == 0
    assert facts.disk_free_bytes > 0
    assert facts.memory_free_bytes > 0
    assert not home.path.parent.exists()


def test_a_running_service_is_recognised_by_the_homes_lock(tmp_path: Path) -> None:
    """Its port is in use because it is in use by us."""
    home = Home(tmp_path)
    prepare(home)
    with lock(home) as held:
        held.announce("http://127.0.0.1:8080/compatible-mode/v1")

        facts = gather(home, None)

    assert facts.running is not None
    assert facts.running.url == "http://127.0.0.1:8080/compatible-mode/v1"
    assert facts.port_problem == ""


def test_settings_that_no_start_would_take_become_a_finding(tmp_path: Path) -> None:
    """The doctor is called when a start has failed: he may not fail for the same reason."""
    (tmp_path / "hanlin.toml").write_text("prot = 80\n", encoding="utf-8")

    facts = gather(Home(tmp_path), None)

    assert "unknown setting 'prot'" in facts.settings_problem


def test_a_lost_secret_is_named_and_no_other_is_made(tmp_path: Path) -> None:
    """A new secret would make the loss final without a word."""
    home = Home(tmp_path)
    prepare(home)
    home.database.touch()

    facts = gather(home, None)

    assert str(home.secret_file) in facts.keys.problem
    assert not home.secret_file.exists()


def test_the_library_of_the_engine_is_loaded_in_a_process_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the processor cannot run it, it takes its process with it."""
    monkeypatch.setenv("HANLIN_EMBEDDED", "true")

    facts = gather(Home(tmp_path), None)

    assert facts.engine_problem == ""
    assert facts.engine_version


def printed(findings: Sequence[Finding], columns: int = 80) -> str:
    console = Console(width=columns, file=io.StringIO())
    with console.capture() as page:
        console.print(view(findings))
    return page.get()


@pytest.mark.parametrize("columns", [80, 120])
def test_remedies_stand_below_what_they_are_for_and_can_be_copied(columns: int) -> None:
    """A table to paste keeps its lines."""
    findings = [
        Finding("disk", Level.OK, "disk", "80 GB free"),
        Finding("port", Level.FAIL, "port", "127.0.0.1:8080 cannot be used", "hanlin serve --port 8081"),
        Finding("neighbour", Level.OK, "Ollama", "qwen3:8b", 'add:\n[[deployment]]\nname = "ollama"'),
    ]

    lines = [line.rstrip() for line in printed(findings, columns).splitlines()]

    assert lines[0] == "✓ disk   80 GB free"
    assert lines[2].strip() == "→ hanlin serve --port 8081"
    assert [line.strip() for line in lines[5:7]] == ["[[deployment]]", 'name = "ollama"']
    assert lines[-1] == "problems: 1, warnings: 0"
    assert max(map(cell_len, lines)) <= columns


def test_what_foreign_servers_call_their_models_cannot_command_the_terminal() -> None:
    """A name may hold anything."""
    page = printed([Finding("neighbour", Level.OK, "Ollama", "evil\x1b]0;title\x07 [red]model")])

    assert "evil]0;title [red]model" in page
    assert "\x1b" not in page


def test_this_machine_can_be_diagnosed(tmp_path: Path) -> None:
    """Whatever it is like, every check comes to a conclusion."""
    findings = diagnose(gather(Home(tmp_path), None))

    assert {"python", "pip", "home", "disk", "cpu", "memory", "engine", "port", "keys"} <= {
        finding.check for finding in findings
    }
    assert all(finding.remedy for finding in findings if finding.level is Level.FAIL)
