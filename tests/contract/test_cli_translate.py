"""`hanlin translate` against a running service: where the translation goes, what is sent, what is refused."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanlin.testing import FakeEngine, Rule
from tests.cli import hanlin
from tests.service import Service, in_front_of

SAID = {"今天": "It is raining today.", "明天": "It will not rain tomorrow.", "标题": "Title"}


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def service(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("home"), config=in_front_of(engine, context_tokens=8192)) as service:
        yield service


@pytest.fixture
def home(service: Service, engine: FakeEngine) -> Path:
    engine.rules([Rule(contains=word, text=text) for word, text in SAID.items()])
    engine.forget_requests()
    return service.home


@pytest.mark.parametrize("model", ["qwen-mt-flash", "qwen-mt-plus"])
def test_the_translation_alone_goes_to_stdout_and_who_made_it_to_stderr(home: Path, model: str) -> None:
    """Whether a model's stream repeats all of the text or tells what is new, it is shown once."""
    done = hanlin(home, "translate", "今天下雨。", "--to", "English", "--model", model)

    assert (done.returncode, done.stdout) == (0, "It is raining today.\n")
    assert "upstream; fake" in done.stderr


def test_files_are_translated_into_files_with_their_lines(home: Path, tmp_path: Path) -> None:
    """The usual use: a document in, a document out, nothing but its words changed."""
    source = tmp_path / "说明.md"
    source.write_text("# 标题\n\n- 今天下雨。\n- 明天不下雨。\n", encoding="utf-8")
    out = tmp_path / "readme.md"

    done = hanlin(home, "translate", str(source), "--to", "en", "--out", str(out))

    assert (done.returncode, done.stdout) == (0, "")
    assert out.read_text(encoding="utf-8") == "# Title\n\n- It is raining today.\n- It will not rain tomorrow.\n"
    assert "说明.md → " in done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["readme.md", "说明.md"]


def test_several_files_go_into_a_folder_under_their_names(home: Path, tmp_path: Path) -> None:
    """And without a folder they are refused: the last would overwrite the others."""
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for file in files:
        file.write_text("今天下雨。", encoding="utf-8")
    (tmp_path / "out").mkdir()

    done = hanlin(home, "translate", *map(str, files), "--to", "en", "--out", str(tmp_path / "out"))
    refused = hanlin(home, "translate", *map(str, files), "--to", "en", "--out", str(tmp_path / "one.txt"))

    assert done.returncode == 0
    assert [(tmp_path / "out" / name).read_text() for name in ("a.txt", "b.txt")] == ["It is raining today."] * 2
    assert refused.returncode == 2
    assert "need a folder" in refused.stderr


def test_terms_and_style_reach_the_model(home: Path, engine: FakeEngine, tmp_path: Path) -> None:
    """From the line and from a file; the text is switched for the terms where that is the way."""
    glossary = tmp_path / "terms.txt"
    glossary.write_text("# ours\nrouter=路由设备\n\n", encoding="utf-8")
    engine.rules([Rule(text="请重启路由设备和主机。")])

    done = hanlin(
        home,
        *("translate", "Restart the router and the server.", "--from", "English", "--to", "zh"),
        *("--term", "server = 主机", "--glossary", str(glossary), "--style", "Plain words."),
    )

    asked = engine.requests()[0].body["messages"][-1]["content"]
    assert done.stdout == "请重启路由设备和主机。\n"
    assert "Restart the 路由设备 and the 主机." in asked
    assert "Style: Plain words." in asked


def test_json_has_the_text_its_usage_and_what_was_corrected(home: Path) -> None:
    """For scripts: one object for one text."""
    done = hanlin(home, "translate", "今天下雨。", "--to", "en", "--json")

    data = json.loads(done.stdout)
    assert data["text"] == "It is raining today."
    assert data["finish_reason"] == "stop"
    assert data["usage"]["completion"] > 0
    assert data["report"]["source_lang"] == "Chinese"


def test_what_may_be_wrong_is_said_beside_the_translation(home: Path, engine: FakeEngine) -> None:
    """A translation that failed its checks must not look like one that passed them."""
    engine.rules([Rule(text="今天下雨了吗？")])

    done = hanlin(home, "translate", "今天下雨了没有？大家都想知道。", "--to", "en")

    assert done.returncode == 0
    assert "doubtful: 1 (piece 1: language" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("hi", "--to", "Germn"), "did you mean German?"),
        (("hi", "--to", "auto"), "no language is called 'auto'"),
        (("hi", "--to", "zh", "--term", "router"), "write it as source=target"),
        (("--to", "zh"), "nothing to translate"),
        (("hi",), "--to"),
    ],
)
def test_wrong_use_is_said_with_exit_code_2(
    home: Path, engine: FakeEngine, arguments: tuple[str, ...], said: str
) -> None:
    """Before anything is asked of the service."""
    done = hanlin(home, "translate", *arguments)

    assert done.returncode == 2
    assert said in done.stderr
    assert engine.requests() == []


def test_a_file_that_is_not_there_is_no_text(home: Path, tmp_path: Path) -> None:
    """Translating the name of a file that was misspelt would look like a strange translation."""
    done = hanlin(home, "translate", str(tmp_path / "nothing.md"), "--to", "en")

    assert done.returncode == 1
    assert "no such file" in done.stderr


def test_a_file_is_not_overwritten_by_its_own_translation(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("今天下雨。", encoding="utf-8")

    done = hanlin(home, "translate", str(file), "--to", "en", "--out", str(file))

    assert done.returncode == 2
    assert file.read_text(encoding="utf-8") == "今天下雨。"
