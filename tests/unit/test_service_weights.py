"""Which weights run, and that what runs is whole."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from hanlin.catalogue import WeightsCatalogue, load_weights
from hanlin.engines.weights.errors import NoSource
from hanlin.engines.weights.fetch import Means
from hanlin.engines.weights.store import install, partial_folder
from hanlin.engines.weights.values import Source, SourceRow, Wanted
from hanlin.errors import StartupError
from hanlin.service.weights import Choice, choose_default, ensure, named, plan_pull, titles, wanted
from tests.values import model

GIB = 2**30
SMALL, LARGE = "qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct"
BODY = b"weights" * 1000


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture(scope="module")
def rows() -> WeightsCatalogue:
    return load_weights()


def tiny(sources: Sequence[SourceRow] = (), name: str = "tiny") -> Wanted:
    return Wanted(name, len(BODY), hashlib.sha256(BODY).hexdigest(), sources, "Owner/Tiny", "Q4_0")


def put(models: Path, name: str = "tiny") -> Wanted:
    """Install the tiny weights."""
    unfinished = partial_folder(models) / "data"
    unfinished.write_bytes(BODY)
    item = tiny(name=name)
    install(models, unfinished, item, "a test")
    return item


# --- choosing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free_bytes", "small", "chosen", "reason"),
    [
        (8 * GIB, False, LARGE, "8 GiB of memory are free"),
        (64 * GIB, False, LARGE, "64 GiB of memory are free"),
        (8 * GIB - 1, False, SMALL, "8.0 GiB of memory are free, the larger default wants 8"),
        (2 * GIB, False, SMALL, "2.0 GiB of memory are free, the larger default wants 8"),
        (64 * GIB, True, SMALL, "the small default was asked for"),
    ],
)
def test_the_default_is_chosen_by_the_memory_that_is_free(
    rows: WeightsCatalogue, free_bytes: int, small: bool, chosen: str, reason: str
) -> None:
    """The larger one answers better; the reason is shown, so that nobody has to guess."""
    choice = choose_default(rows, free_bytes, small=small)

    assert (choice.wanted.name, choice.reason) == (chosen, reason)
    assert choice.context_tokens == 32_768


def test_weights_are_found_by_their_own_name_and_by_the_model_that_they_are_of(
    rows: WeightsCatalogue, tmp_path: Path
) -> None:
    """People know either."""
    of_model = model("coder", open_weights="Qwen/Qwen2.5-Coder-0.5B-Instruct")

    assert named(SMALL, rows, None, tmp_path).wanted == wanted(rows.rows[SMALL])
    assert named("coder", rows, of_model, tmp_path).wanted == wanted(rows.rows[SMALL])


@pytest.mark.parametrize("name", ["tiny", "tiny-model"])
def test_weights_that_were_pulled_are_found_without_a_row_of_ours(
    rows: WeightsCatalogue, tmp_path: Path, name: str
) -> None:
    """By the name under which they were pulled, or by the model whose published weights they are."""
    item = put(tmp_path)

    choice = named(name, rows, model("tiny-model", open_weights="Owner/Tiny"), tmp_path)

    assert (choice.wanted.sha256, choice.wanted.repository) == (item.sha256, "Owner/Tiny")


def test_weights_that_are_not_here_say_how_to_get_them(rows: WeightsCatalogue, tmp_path: Path) -> None:
    """The start stops with the command to run."""
    put(tmp_path)

    with pytest.raises(StartupError, match="weights 'other' are not here: run `hanlin pull other`, or take one of"):
        named("other", rows, None, tmp_path)


def test_what_cannot_be_pulled_says_why(rows: WeightsCatalogue) -> None:
    """An unknown name is a slip of the pen; a model without published weights can only be rented."""
    with pytest.raises(StartupError, match="'other' is neither a model nor weights"):
        plan_pull("other", rows, None, GIB, Means())
    with pytest.raises(NoSource, match="qwen-max: its weights were never published"):
        plan_pull("qwen-max", rows, model("qwen-max"), GIB, Means())


def test_a_row_of_ours_is_pulled_as_it_is(rows: WeightsCatalogue) -> None:
    """Without asking any hub: its digest is known."""
    pull = plan_pull(SMALL, rows, None, GIB, Means())

    assert pull.parts == (wanted(rows.rows[SMALL]),)
    assert pull.size_bytes == 491_400_064


def test_weights_are_called_what_people_call_them() -> None:
    """What was published and its quantisation; a name where nothing more is known."""
    assert titles([tiny()]) == "Tiny Q4_0"
    assert titles([Wanted("mine", 1, "0" * 64, ())]) == "mine"


# --- having them -----------------------------------------------------------------------------------------------------


def test_weights_that_are_here_and_whole_are_run_as_they_are(tmp_path: Path) -> None:
    """Without a network: a start must work on a plane."""
    item = put(tmp_path)

    assert ensure(Choice(item, 4096, ""), tmp_path, Means()) == tmp_path / item.sha256


def damage(path: Path) -> None:
    """Change a byte and leave the date, as a bad disk does."""
    before = path.stat()
    path.chmod(0o600)
    path.write_bytes(b"W" + BODY[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_damaged_file_is_fetched_again(tmp_path: Path) -> None:
    """What runs is read first: its date says nothing about its bytes. The user is told why it takes longer."""
    models, origin = tmp_path / "models", tmp_path / "origin"
    models.mkdir()
    origin.write_bytes(BODY)
    damage(models / put(models).sha256)
    told: list[str] = []

    found = ensure(Choice(tiny([Source("file", path=str(origin))]), 4096, ""), models, Means(tell=told.append))

    assert found.read_bytes() == BODY
    assert told[0] == "tiny: the file on disk is damaged and was put aside; fetching it again"


def test_a_damaged_file_is_never_run_even_when_there_is_no_other(tmp_path: Path) -> None:
    """It is put aside under another name, so that no later start takes it for weights."""
    item = put(tmp_path)
    damage(tmp_path / item.sha256)

    with pytest.raises(NoSource):
        ensure(Choice(item, 4096, ""), tmp_path, Means())

    assert not (tmp_path / item.sha256).exists()
    assert (tmp_path / f"{item.sha256}.corrupt").read_bytes() == b"W" + BODY[1:]


def test_weights_that_are_not_here_are_fetched(tmp_path: Path) -> None:
    """The first start."""
    models, origin = tmp_path / "models", tmp_path / "origin"
    models.mkdir()
    origin.write_bytes(BODY)

    found = ensure(Choice(tiny([Source("file", path=str(origin))]), 4096, ""), models, Means())

    assert found == models / tiny().sha256
    assert found.read_bytes() == BODY
