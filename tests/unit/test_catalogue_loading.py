"""Reading the catalogue: adding a row, and what is said when a row does not fit."""

import shutil
import time
from pathlib import Path

import pytest

import hanlin.catalogue
from hanlin.catalogue import load
from hanlin.errors import StartupError

ROW = """
[[model]]
name = "qwen9-plus"
aliases = ["qwen9-plus-2027-01-01"]
family = "plus"
owner = "qwen"
description = "Tomorrow's model."
suits = ["general"]
grade = 4
endpoint = "chat/completions"
sampling = "qwen"
context_tokens = 1_000
max_input_tokens = 900
prices = [{ up_to_tokens = 500, input = 1, output = 2 }, { input = 2, output = 4 }]
source = "help:models"
as_of = "2027-01"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the catalogue that a test may spoil."""
    target = tmp_path / "catalogue"
    shutil.copytree(
        Path(hanlin.catalogue.__file__).parent, target, ignore=shutil.ignore_patterns("*.py", "__pycache__")
    )
    return target


def add(folder: Path, row: str, file: str = "qwen-plus.toml") -> None:
    with (folder / "models" / file).open("a", encoding="utf-8") as rows:
        rows.write(row)


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_adding_a_model_is_adding_a_row(folder: Path) -> None:
    """No code knows a model's name, so a new one needs no code."""
    add(folder, ROW)

    catalogue = load(folder)

    model = catalogue.find("qwen9-plus-2027-01-01")
    assert model is not None
    assert model.name == "qwen9-plus"
    assert model.source == "https://help.aliyun.com/zh/model-studio/models"
    assert catalogue.sampling(model, thinking=False).top_k == 20
    assert len(catalogue.models) == 169


def test_a_new_file_is_read_like_the_others(folder: Path) -> None:
    """Groups are files for people; nothing else depends on which file a row stands in."""
    add(folder, ROW, file="my-own.toml")

    assert "qwen9-plus" in load(folder).models


def test_what_a_row_leaves_out_is_the_cautious_answer(folder: Path) -> None:
    """A short row must not promise anything."""
    add(folder, ROW)

    model = load(folder).models["qwen9-plus"]

    assert model.thinking == "none"
    assert model.input_modalities == ("text",)
    assert model.features == ()
    assert model.lifecycle.status == "unknown"
    assert model.stream_only is None
    assert model.max_output_tokens is None


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("context_tokens = 1_000", "contexttokens = 1_000", "unknown field `contexttokens`"),
        (
            "context_tokens = 1_000",
            'context_tokens = "1000"',
            "Expected `int | null`, got `str` - at `$.context_tokens`",
        ),
        ("context_tokens = 1_000", "context_tokens = 0", "$.context_tokens"),
        (
            "max_input_tokens = 900",
            "max_input_tokens = 1_001",
            "max_input_tokens = 1_001 is above context_tokens = 1_000",
        ),
        ('sampling = "qwen"', 'sampling = "quen"', "sampling = 'quen' is unknown"),
        ('sampling = "qwen"\n', "", "sampling = '' is unknown"),
        ('family = "plus"', 'family = "pluss"', "family = 'pluss' is unknown"),
        ('owner = "qwen"', 'owner = "quen"', "owner = 'quen' is unknown"),
        ('suits = ["general"]', 'suits = ["generally"]', "suits = 'generally' is unknown"),
        ("grade = 4", "grade = 6", "$.grade"),
        ("grade = 4", 'grade = 4\nneeds = ["smell"]', "needs = 'smell' is unknown"),
        ("grade = 4", 'grade = 4\nfeatures = ["telepathy"]', "features = 'telepathy' is unknown"),
        ("grade = 4", 'grade = 4\nlanguages = ["xx"]', "languages = 'xx' is unknown"),
        ("grade = 4", 'grade = 4\nunconfirmed = ["colour"]', "unconfirmed = 'colour' is unknown"),
        ("grade = 4", 'grade = 4\nthinking = "sometimes"', "$.thinking"),
        ("grade = 4", 'grade = 4\nopen_weights = "Qwen/Qwen9"', "open_weights and open_weights_match belong together"),
        ("grade = 4", 'grade = 4\nlifecycle = { status = "gone" }', "$.lifecycle.status"),
        ('endpoint = "chat/completions"\n', "", "`needs` must say"),
        ("up_to_tokens = 500, ", "", "the price tier up to None comes after the one up to None"),
        ("{ input = 2", "{ up_to_tokens = 400, input = 2", "the price tier up to 400 comes after the one up to 500"),
        ("{ input = 2", "{ inputs = 2", "unknown field `inputs`"),
        ("output = 4", "output = -4", "$.prices[1].output"),
        ('source = "help:models"', 'source = "hlep:models"', "source = 'hlep' is unknown"),
        ('as_of = "2027-01"', 'as_of = "January"', "$.as_of"),
        ('name = "qwen9-plus"', 'name = "qwen-max"', "'qwen-max' is taken already by"),
        ('["qwen9-plus-2027-01-01"]', '["kimi-k3"]', "'kimi-k3' is taken already by"),
        ('["qwen9-plus-2027-01-01"]', '["qwen9-plus"]', "'qwen9-plus' is taken already by"),
    ],
)
def test_a_row_that_does_not_fit_stops_the_start_with_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, complaint: str
) -> None:
    """Whoever edits a row reads the file, the row and the fault, and need not search 168 rows."""
    monkeypatch.setenv("HANLIN_LANG", "en")
    assert old in ROW
    add(folder, ROW.replace(old, new))

    with pytest.raises(StartupError) as caught:
        load(folder)

    message = str(caught.value)
    assert complaint in message
    assert "[[model]]" in message
    name = "qwen-max" if "qwen-max" in complaint else "qwen9-plus"
    assert f"{name!r}: " in message or f"{name!r} is taken" in message


def test_the_place_is_the_file_and_the_number_of_the_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number helps where the name itself is what is wrong."""
    monkeypatch.setenv("HANLIN_LANG", "en")
    add(folder, ROW.replace('name = "qwen9-plus"', "name = 9"), file="mine.toml")

    with pytest.raises(StartupError) as caught:
        load(folder)

    assert str(caught.value).startswith(f"{folder / 'models' / 'mine.toml'}: [[model]] 1: ")


def test_the_complaint_is_chinese_for_a_chinese_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both languages are complete sentences with the same remedy."""
    monkeypatch.setenv("HANLIN_LANG", "zh")
    add(folder, ROW.replace('family = "plus"', 'family = "pluss"'))

    with pytest.raises(StartupError, match="family = 'pluss' 未知；可用的有 max"):
        load(folder)


@pytest.mark.parametrize(
    ("file", "old", "new", "complaint"),
    [
        ("models/qwen-max.toml", "[[model]]", "[[modell]]", "unknown entry 'modell'"),
        ("models/qwen-max.toml", "[[model]]", "[[model]", "is not TOML"),
        ("models/mimo.toml", "[[model]]", "[model]", "must be written as [[model]] rows"),
        ("vocabulary.toml", 'name = "turbo"', 'name = "plus"', "an earlier row has this name"),
        ("efforts.toml", 'default = "high"', 'default = "highest"', "default = 'highest' is unknown"),
        ("efforts.toml", 'name = "max"', 'name = "qwen3.8"', "an earlier row has this name"),
        ("vocabulary.toml", "[owners]", "[owner]", "unknown entry 'owner'"),
        ("sampling.toml", 'name = "qwq"\nthinking', 'name = "qwq"\n#', "neither `plain` nor `thinking`"),
        ("sampling.toml", 'name = "qwq"', 'name = "qwen"', "an earlier row has this name"),
        ("sampling.toml", "top_k = 40", "topk = 40", "unknown field `topk`"),
        ("sampling.toml", "top_k = 40", "top_k = 4.5", "$.thinking.top_k"),
        ("sampling.toml", '"help:qwen-mt-api"', '"qwen-mt-api"', "source = 'qwen-mt-api' is unknown"),
        ("tasks.toml", 'name = "general"', 'name = "generic"', "the task 'general' is missing"),
        ("tasks.toml", 'needs = ["audio"]', 'needs = ["ears"]', "needs = 'ears' is unknown"),
        ("tasks.toml", "price_weight = 3.0", "price_weight = -1", "$.price_weight"),
    ],
)
def test_every_file_is_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, file: str, old: str, new: str, complaint: str
) -> None:
    """The files refer to one another; a slip in any of them is found at the start, not at the first call."""
    monkeypatch.setenv("HANLIN_LANG", "en")
    replace(folder / file, old, new)

    with pytest.raises(StartupError) as caught:
        load(folder)

    assert str(caught.value).startswith(str(folder / file))
    assert complaint in str(caught.value)


def test_a_missing_file_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An incomplete installation says what is missing instead of knowing fewer models."""
    monkeypatch.setenv("HANLIN_LANG", "en")
    (folder / "sampling.toml").unlink()

    with pytest.raises(StartupError, match=r"sampling\.toml: cannot be read \(No such file"):
        load(folder)


def test_a_folder_without_models_is_named(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the folder of rows."""
    monkeypatch.setenv("HANLIN_LANG", "en")
    shutil.rmtree(folder / "models")

    with pytest.raises(StartupError, match=r"models: cannot be read"):
        load(folder)


def test_the_catalogue_cannot_be_changed_once_read() -> None:
    """Everybody shares one catalogue; nobody may edit it."""
    catalogue = load()

    with pytest.raises(TypeError):
        catalogue.models["qwen-plus"] = catalogue.models["qwen-max"]  # type: ignore[index]
    with pytest.raises(AttributeError):
        catalogue.models["qwen-plus"].grade = 1  # type: ignore[misc]


def test_reading_the_catalogue_takes_a_fraction_of_a_second() -> None:
    """It is on the way to every start; the bound is wide because machines are busy."""
    started = time.process_time()

    load()

    assert time.process_time() - started < 1.0
