"""What the doctor gathers on this machine, and how its findings look."""

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from hanlin.cli.adopting import Adopted, adopt
from hanlin.cli.doctor import gather, view, view_adopted
from hanlin.errors import StartupError
from hanlin.home import Home, lock, prepare
from hanlin.service.diagnosis import Finding, Level, diagnose
from hanlin.service.neighbours import Neighbour
from hanlin.settings import load
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


# --- neighbours that are written into hanlin.toml --------------------------------------------------------------------

OLLAMA = Neighbour("Ollama", "http://127.0.0.1:11434/v1", ("qwen3:8b",), upstream="ollama")
VLLM = Neighbour("vLLM", "http://127.0.0.1:8000/v1", ("Qwen/Qwen3-8B",), 40960, "vllm")
EMPTY = Neighbour("LM Studio", "http://127.0.0.1:1234/v1", (), upstream="lmstudio")


def test_neighbours_are_appended_and_what_stands_there_is_not_touched(tmp_path: Path) -> None:
    """Comments, order and mode of somebody's file are somebody's."""
    file = tmp_path / "hanlin.toml"
    before = "# mine\nport = 9000   # not 8080"
    file.write_text(before)
    file.chmod(0o640)

    adopted = adopt(file, [OLLAMA, EMPTY, VLLM])

    assert file.read_text() == f"{before}\n\n{adopted.text}\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert [(row.name, row.upstream, row.model) for row in load(file, {}).settings.deployment] == [
        ("ollama", "ollama", "qwen3:8b"),
        ("vllm", "vllm", "Qwen/Qwen3-8B"),
    ]
    assert list(tmp_path.iterdir()) == [file]


def test_a_home_without_a_file_gets_one_that_only_its_owner_reads(tmp_path: Path) -> None:
    """A key may come to stand there later."""
    file = tmp_path / "home" / "hanlin.toml"

    adopted = adopt(file, [OLLAMA])

    assert file.read_text() == f"{adopted.text}\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_neighbours_that_are_used_already_are_not_added_again(tmp_path: Path) -> None:
    """The command may be given as often as one likes."""
    file = tmp_path / "hanlin.toml"
    adopt(file, [OLLAMA])
    before = file.read_bytes()

    assert adopt(file, [OLLAMA, EMPTY]).text == ""
    assert file.read_bytes() == before


def test_a_name_that_is_taken_gets_a_number(tmp_path: Path) -> None:
    """Two deployments of one name would stop the next start."""
    file = tmp_path / "hanlin.toml"
    file.write_text('[[deployment]]\nname = "ollama"\nurl = "http://elsewhere/v1"\n')

    adopt(file, [OLLAMA])

    assert [row.name for row in load(file, {}).settings.deployment] == ["ollama", "ollama-2"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("port = ", "not TOML"),
        ("prot = 1", "unknown setting 'prot'"),
        ('deployment = [{ name = "a", url = "http://a" }]\n', "left as it is"),
        ("deployment = []\n", "left as it is"),
    ],
)
def test_a_file_that_would_not_be_read_is_left_as_it_is(tmp_path: Path, text: str, why: str) -> None:
    """A broken file must not be broken further, nor a whole one broken."""
    file = tmp_path / "hanlin.toml"
    file.write_text(text)

    with pytest.raises(StartupError, match=why):
        adopt(file, [OLLAMA])

    assert file.read_text() == text
    assert list(tmp_path.iterdir()) == [file]


def test_the_file_that_a_link_leads_to_is_written(tmp_path: Path) -> None:
    """Settings may be kept in a repository; a link that becomes a file would part them without a word."""
    kept, link = tmp_path / "kept.toml", tmp_path / "hanlin.toml"
    kept.write_text("port = 9000\n")
    link.symlink_to(kept)

    adopt(link, [OLLAMA])

    assert link.is_symlink()
    assert "ollama" in kept.read_text()


def test_a_folder_that_cannot_be_written_is_named_with_the_reason(tmp_path: Path) -> None:
    """As root every folder can be, so a file stands where the folder should."""
    (tmp_path / "home").write_text("")

    with pytest.raises(StartupError, match="cannot be written"):
        adopt(tmp_path / "home" / "hanlin.toml", [OLLAMA])


@pytest.mark.parametrize(
    ("text", "is_running", "words"),
    [
        ('[[deployment]]\nname = "ollama"', False, "it counts from the next start"),
        ('[[deployment]]\nname = "ollama"', True, "takes it over by itself"),
        ("", True, "nothing to add"),
    ],
)
def test_what_was_written_is_shown_with_when_it_counts(text: str, is_running: bool, words: str) -> None:
    """Nobody should have to open the file to see what a command did to it."""
    console = Console(file=io.StringIO(), width=120)

    console.print(view_adopted(Adopted(Path("/srv/hanlin.toml"), text), is_running=is_running))

    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert words in shown
    assert all(line in shown for line in text.splitlines())
