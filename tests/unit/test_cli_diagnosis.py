"""What the doctor makes of the facts: every finding that is not well comes with a remedy."""

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from hanlin.home import Running
from hanlin.service.diagnosis import CHECKS, Facts, Finding, KeyState, Level, WeightsState, diagnose, worst
from hanlin.service.neighbours import Neighbour
from hanlin.settings import DeploymentRow, Settings

GB = 1_000_000_000

SMALL = WeightsState("qwen2.5-coder-0.5b-instruct", 491_400_064, 740_000_000, "intact", wanted=True)
RUNNING = Running(4711, "http://127.0.0.1:8080/compatible-mode/v1", datetime(2026, 11, 1, tzinfo=UTC))
OLLAMA = Neighbour("Ollama", "http://127.0.0.1:11434/v1", ("qwen3:8b", "glm4:9b"), upstream="ollama")

WELL = Facts(
    python=(3, 12, 1),
    pip="26.3",
    architecture="x86_64",
    cpu_flags=frozenset({"sse2", "avx2"}),
    cores=4,
    memory_free_bytes=16 * GB,
    disk_free_bytes=50 * GB,
    home=Path("/srv/hanlin"),
    engine_version="2026.10.11549",
    weights=(SMALL,),
    keys=KeyState(working=1, variable="DASHSCOPE_API_KEY", known=True),
)


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


def found(check: str, **changed: Any) -> Finding:
    """Return the finding of one check when these facts are otherwise than well."""
    (finding,) = [one for one in diagnose(dataclasses.replace(WELL, **changed)) if one.check == check]
    return finding


def test_a_machine_in_good_order_has_nothing_to_remedy() -> None:
    """A doctor who always finds something is not believed when it matters."""
    findings = diagnose(WELL)

    assert worst(findings) is Level.OK
    assert all(finding.remedy == "" for finding in findings)
    assert {finding.check for finding in findings} == {
        *("python", "pip", "settings", "home", "disk", "cpu", "memory", "engine", "weights", "port", "keys")
    }


@pytest.mark.parametrize(
    ("check", "level", "remedy", "changed"),
    [
        ("python", Level.FAIL, "3.11", {"python": (3, 10, 4)}),
        ("pip", Level.WARN, "pip install", {"pip": "24.0"}),
        ("pip", Level.WARN, "pip install", {"pip": ""}),
        ("settings", Level.FAIL, "hanlin config", {"settings_problem": "hanlin.toml: unknown setting 'prot'"}),
        ("home", Level.FAIL, "--home", {"home_problem": "/srv/hanlin: cannot be used: the disk is full"}),
        ("disk", Level.WARN, "HANLIN_HOME", {"disk_free_bytes": GB // 2}),
        ("cpu", Level.FAIL, "[[deployment]]", {"cpu_flags": frozenset({"sse2"})}),
        ("cpu", Level.WARN, "--small", {"cores": 1}),
        ("memory", Level.FAIL, "--small", {"memory_free_bytes": GB // 2}),
        (
            "engine",
            Level.FAIL,
            "apt-get install libgomp1",
            {"engine_problem": "ImportError: libgomp.so.1: cannot open shared object file: No such file or directory"},
        ),
        (
            "engine",
            Level.FAIL,
            "pip install xllamacpp",
            {"engine_problem": "ModuleNotFoundError: No module named 'xllamacpp'"},
        ),
        ("engine", Level.FAIL, "--no-embedded", {"engine_problem": "loading it ends with signal 4"}),
        ("weights", Level.WARN, "hanlin pull qwen", {"weights": (dataclasses.replace(SMALL, state="missing"),)}),
        ("weights", Level.FAIL, "hanlin pull qwen", {"weights": (dataclasses.replace(SMALL, state="damaged"),)}),
        ("port", Level.FAIL, "hanlin serve --port 8081", {"port_problem": "127.0.0.1:8080 cannot be used"}),
        ("keys", Level.FAIL, "hanlin keys create", {"keys": KeyState(revoked=2, variable="DASHSCOPE_API_KEY")}),
        ("keys", Level.WARN, "hanlin keys create", {"keys": KeyState(working=1)}),
        ("keys", Level.WARN, "hanlin keys create", {"keys": KeyState(working=1, variable="HANLIN_API_KEY")}),
    ],
)
def test_what_is_wrong_is_found_and_its_remedy_named(
    check: str, level: Level, remedy: str, changed: dict[str, Any]
) -> None:
    """A finding without a remedy leaves its reader where he was."""
    finding = found(check, **changed)

    assert finding.level is level
    assert remedy in finding.remedy
    assert finding.detail


@pytest.mark.parametrize("language", ["en", "zh"])
def test_findings_speak_both_languages(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read by people in trouble."""
    monkeypatch.setenv("HANLIN_LANG", language)

    titles = {finding.title for finding in diagnose(WELL)}

    assert ("磁盘" in titles) == (language == "zh")


def test_a_disk_without_room_for_the_missing_weights_fails() -> None:
    """It would fail at nine tenths of a long download otherwise."""
    missing = dataclasses.replace(SMALL, size_bytes=5 * GB, state="missing")

    finding = found("disk", weights=(missing,), disk_free_bytes=4 * GB)

    assert finding.level is Level.FAIL
    assert "5 GB" in finding.detail
    assert found("disk", weights=(SMALL,), disk_free_bytes=4 * GB).level is Level.OK


def test_weights_that_nobody_wants_to_run_take_no_memory() -> None:
    """What was pulled once and lies on the disk is no reason to worry."""
    other = WeightsState("qwen3-32b", 20 * GB, 25 * GB, "intact", wanted=False)

    assert found("memory", weights=(SMALL,)).level is Level.OK
    assert [one.level for one in diagnose(dataclasses.replace(WELL, weights=(SMALL, other)))].count(Level.FAIL) == 0


def test_a_service_that_runs_is_no_reason_to_complain() -> None:
    """It holds the port, the home and the memory because it is the one that was wanted."""
    missing = dataclasses.replace(SMALL, state="missing", memory_bytes=100 * GB)

    findings = diagnose(dataclasses.replace(WELL, running=RUNNING, weights=(missing,)))

    assert worst(findings) is Level.OK
    assert "process 4711" in next(one for one in findings if one.check == "home").detail
    assert RUNNING.url in next(one for one in findings if one.check == "port").detail


def test_without_the_embedded_engine_nothing_is_asked_of_the_processor() -> None:
    """A machine that only passes calls on needs neither AVX2 nor weights."""
    findings = diagnose(
        dataclasses.replace(WELL, settings=Settings(embedded=False), weights=(), cpu_flags=frozenset(), cores=1)
    )

    assert worst(findings) is Level.OK


def test_other_processors_are_not_asked_for_avx2() -> None:
    """It is a word of x86 only."""
    assert found("cpu", architecture="aarch64", cpu_flags=frozenset({"asimd"})).level is Level.OK


def test_who_holds_the_port_is_named_when_it_is_known() -> None:
    """llama-server's usual port is ours, too."""
    llama = Neighbour("llama-server", "http://127.0.0.1:8080", ("Qwen3-8B",), 8192, "llama")

    finding = found("port", port_problem="127.0.0.1:8080 cannot be used", neighbours=(llama,))

    assert "llama-server listens there" in finding.detail


def test_a_home_without_keys_says_what_the_first_start_will_do() -> None:
    """Nothing is wrong with a fresh machine."""
    fresh = found("keys", keys=KeyState())
    adopting = found("keys", keys=KeyState(variable="DASHSCOPE_API_KEY"))

    assert fresh.level is adopting.level is Level.OK
    assert "makes one" in fresh.detail
    assert "$DASHSCOPE_API_KEY" in adopting.detail


def test_a_neighbour_is_named_with_the_table_to_paste() -> None:
    """A larger model that runs already beats a small one that is fetched."""
    finding = found("neighbour", neighbours=(OLLAMA,))

    assert (finding.title, finding.level) == ("Ollama", Level.OK)
    assert "qwen3:8b, glm4:9b" in finding.detail
    assert '[[deployment]]\nname = "ollama"\nupstream = "ollama"\nurl = "http://127.0.0.1:11434/v1"' in finding.remedy
    assert "--write" in finding.remedy


def test_a_neighbour_that_is_used_or_empty_is_not_advertised() -> None:
    """Advice that was taken already, or that cannot work, is noise."""
    settings = Settings(deployment=(DeploymentRow("ollama", "http://127.0.0.1:11434/v1/"),))

    assert found("neighbour", neighbours=(OLLAMA,), settings=settings).remedy == ""
    assert found("neighbour", neighbours=(dataclasses.replace(OLLAMA, models=()),)).remedy == ""


def test_the_worst_finding_decides() -> None:
    """The exit code of the command follows it."""
    levels = [Level.OK, Level.FAIL, Level.WARN]

    assert worst([Finding("x", level, "", "") for level in levels]) is Level.FAIL
    assert worst([]) is Level.OK
    assert len(CHECKS) == 12
