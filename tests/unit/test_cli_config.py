"""What `hanlin config` shows."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hanlin.cli.config import described, view
from hanlin.settings import FIELDS, load

TOML = """
slots = 2
api_key = "sk-secret-in-the-file"
database = "postgresql://hanlin:sk-secret-of-the-database@db/hanlin"
redis = "redis://:sk-secret-of-redis@cache"
secret = "sk-secret-of-keys"
[[deployment]]
name = "ollama"
url = "http://127.0.0.1:11434/v1"
"""


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "hanlin.toml").write_text(TOML, encoding="utf-8")
    return tmp_path / "hanlin.toml"


def rows(file: Path, **environment: str) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in described(load(file, environment))}


def shown(file: Path) -> str:
    console = Console(width=100, file=io.StringIO())
    with console.capture() as page:
        console.print(view("/srv/hanlin", str(file), described(load(file, {}))))
    return page.get()


def test_every_setting_has_its_row_with_value_origin_and_sentence(file: Path) -> None:
    """The page is the table of settings, whatever is added to it."""
    found = rows(file, HANLIN_PORT="9000")

    assert list(found) == list(FIELDS)
    assert (found["slots"]["value"], found["slots"]["origin"]) == (2, str(file))
    assert (found["port"]["value"], found["port"]["origin"]) == (9000, "HANLIN_PORT")
    assert found["host"]["origin"] == "default"
    assert all(row["meaning"] for row in found.values())


def test_secrets_are_masked_wherever_they_come_from(file: Path) -> None:
    """The page is what people paste into a bug report."""
    from_file, from_environment = rows(file), rows(file, HANLIN_API_KEY="sk-secret-in-the-environment")

    assert from_file["api_key"]["value"] == from_environment["api_key"]["value"] == "••••"
    assert [from_file[name]["value"] for name in ("database", "redis", "secret")] == ["••••"] * 3
    assert "sk-secret" not in str(from_file) + str(from_environment) + shown(file)


def test_the_page_names_home_file_and_the_servers_of_the_file(file: Path) -> None:
    """Most questions are about which file was read at all."""
    page = shown(file)

    assert "/srv/hanlin" in page
    assert str(file) in page.replace("\n", "").replace(" ", "")
    assert "ollama: http://127.0.0.1:11434/v1" in page


def test_deployments_and_routes_have_a_line_each(tmp_path: Path) -> None:
    """Who answers what is the first thing that people look for."""
    file = tmp_path / "hanlin.toml"
    file.write_text(
        '[[deployment]]\nname = "a"\nurl = "http://127.0.0.1:1/v1"\n'
        '[[deployment]]\nname = "gpu"\nengine = "vllm"\nweights = "Qwen/Qwen3-8B"\n'
        'arguments = ["--hf-token", "hf_1", "--seed=1", "--x-key=2"]\n'
        '[[route]]\nnames = ["qwen-plus"]\ndeployments = ["gpu"]\nfallbacks = ["a"]\n',
        encoding="utf-8",
    )

    page = shown(file)

    assert "a: http://127.0.0.1:1/v1" in page
    assert "gpu: vllm Qwen/Qwen3-8B" in page
    assert "qwen-plus: gpu, a" in page
    assert rows(file)["deployment"]["value"][1]["arguments"] == ["--hf-token", "••••", "--seed=1", "--x-key=••••"]
