"""The models folder: what counts as finished, what is known about it, and what happens to damaged files."""

import hashlib
import os
from pathlib import Path

import pytest

from hanlin.engines.weights import FolderUnusable, Wanted, find, installed, intact, quarantine, verify, with_environment
from hanlin.engines.weights.store import install, join_set, locked, partial_folder, read_manifest
from hanlin.engines.weights.values import Hub
from hanlin.settings import Secret

BODY = b"weights" * 1000


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


def wanted(body: bytes = BODY, *, name: str = "tiny", file_name: str = "") -> Wanted:
    digest = hashlib.sha256(body).hexdigest()
    return Wanted(name, len(body), digest, (), repository="Owner/Tiny", quantisation="Q4_0", file_name=file_name)


def put(models: Path, body: bytes = BODY, *, name: str = "tiny", file_name: str = "") -> Wanted:
    unfinished = partial_folder(models) / "data"
    unfinished.write_bytes(body)
    item = wanted(body, name=name, file_name=file_name)
    install(models, unfinished, item, "a test")
    return item


def flip_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        first = file.read(1)[0]
        file.seek(0)
        file.write(bytes([first ^ 0xFF]))


def test_installed_weights_are_found_with_what_is_known_about_them(tmp_path: Path) -> None:
    """What runs must be able to say which weights it runs, and where they came from."""
    item = put(tmp_path)

    assert find(tmp_path, item.sha256) == tmp_path / item.sha256
    (row,) = installed(tmp_path)
    assert (row.name, row.repository, row.quantisation, row.source) == ("tiny", "Owner/Tiny", "Q4_0", "a test")
    assert row.size_bytes == len(BODY)
    assert verify(row.path, item.sha256)


def test_an_empty_or_missing_folder_holds_nothing(tmp_path: Path) -> None:
    """A first start has no folder yet."""
    assert installed(tmp_path / "none") == []
    assert find(tmp_path / "none", "0" * 64) is None
    assert not intact(tmp_path / "none", "0" * 64)


def test_weights_without_a_readable_manifest_are_still_weights(tmp_path: Path) -> None:
    """The bytes are what cost an hour; the note beside them is not worth fetching them again."""
    item = put(tmp_path)
    (tmp_path / f"{item.sha256}.toml").write_text("name = ", encoding="utf-8")

    assert find(tmp_path, item.sha256) is not None
    assert [row.name for row in installed(tmp_path)] == [""]
    assert intact(tmp_path, item.sha256)


def test_damage_is_noticed_and_put_aside(tmp_path: Path) -> None:
    """Damaged weights answer nonsense or crash the engine: they must never be used again."""
    item = put(tmp_path)
    flip_a_byte(tmp_path / item.sha256)

    assert not intact(tmp_path, item.sha256)
    assert quarantine(tmp_path, item.sha256) == tmp_path / f"{item.sha256}.corrupt"
    assert find(tmp_path, item.sha256) is None
    assert installed(tmp_path) == []


def test_sound_weights_are_not_put_aside(tmp_path: Path) -> None:
    """A second process may have replaced them between the look and the deed."""
    item = put(tmp_path)

    assert quarantine(tmp_path, item.sha256) is None
    assert find(tmp_path, item.sha256) is not None


def test_fresh_weights_replace_what_was_put_aside(tmp_path: Path) -> None:
    """The damaged copy is kept for whoever wants to look, not for ever."""
    item = put(tmp_path)
    flip_a_byte(tmp_path / item.sha256)
    quarantine(tmp_path, item.sha256)

    put(tmp_path)

    assert intact(tmp_path, item.sha256)
    assert not (tmp_path / f"{item.sha256}.corrupt").exists()


def test_a_file_that_was_only_touched_is_read_once_and_remembered(tmp_path: Path) -> None:
    """A restored backup has other times; reading gigabytes at every start for that would be a waste."""
    item = put(tmp_path)
    os.utime(tmp_path / item.sha256, ns=(1, 1))

    assert intact(tmp_path, item.sha256)
    manifest = read_manifest(tmp_path, item.sha256)
    assert manifest is not None
    assert manifest.modified_ns == 1


def test_a_set_is_one_model_under_the_names_that_the_engine_looks_for(tmp_path: Path) -> None:
    """llama.cpp is given the first part and finds the others beside it by their names."""
    parts = [put(tmp_path, body, file_name=f"m-0000{number}-of-00002.gguf") for number, body in ((1, b"a"), (2, b"bc"))]

    first = join_set(tmp_path, parts)

    assert first.name == "m-00001-of-00002.gguf"
    assert [path.read_bytes() for path in sorted(first.parent.iterdir())] == [b"a", b"bc"]
    assert find(tmp_path, parts[0].sha256) == first
    assert [(row.path, row.size_bytes) for row in installed(tmp_path)] == [(first, 3)]


def test_a_set_with_a_damaged_part_is_not_whole(tmp_path: Path) -> None:
    """The damaged part alone goes: the others need not be fetched again."""
    parts = [put(tmp_path, body, file_name=f"m-0000{number}-of-00002.gguf") for number, body in ((1, b"a"), (2, b"bc"))]
    join_set(tmp_path, parts)
    flip_a_byte(tmp_path / parts[1].sha256)

    assert not intact(tmp_path, parts[0].sha256)
    assert quarantine(tmp_path, parts[0].sha256) == tmp_path / f"{parts[1].sha256}.corrupt"
    assert find(tmp_path, parts[0].sha256) is None
    assert (tmp_path / parts[0].sha256).is_file()


def test_the_second_holder_of_a_lock_waits_for_the_first(tmp_path: Path) -> None:
    """Two writers of one file would produce bytes of neither."""

    def interrupted() -> None:
        raise TimeoutError

    with locked(tmp_path, "0" * 64, interrupted):
        with pytest.raises(TimeoutError), locked(tmp_path, "0" * 64, interrupted):
            pass

        with locked(tmp_path, "1" * 64, interrupted):
            pass

    with locked(tmp_path, "0" * 64, interrupted):
        pass


def test_a_models_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The reader has to know which path to correct."""
    (tmp_path / "models").write_text("not a folder", encoding="utf-8")

    with pytest.raises(FolderUnusable, match="models"):
        partial_folder(tmp_path / "models")


def test_the_hubs_own_variables_change_their_address_and_token() -> None:
    """Operators behind a mirror have set them already for the hubs' own tools."""
    hubs = (Hub("modelscope", "https://modelscope.example", "master"), Hub("huggingface", "https://hf.example", "main"))
    environment = {"HF_ENDPOINT": "https://mirror.example/", "HF_TOKEN": "hf_x", "MODELSCOPE_ENDPOINT": "ms.example"}

    modelscope, huggingface = with_environment(hubs, environment)

    assert (modelscope.endpoint, modelscope.token) == ("https://ms.example", Secret(""))
    assert (huggingface.endpoint, huggingface.token.reveal()) == ("https://mirror.example", "hf_x")
    assert with_environment(hubs, {}) == hubs
