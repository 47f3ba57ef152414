"""Which file of a repository a machine gets, and the sentence that says why."""

import hashlib

import pytest

from hanlin.engines.weights import Choice, DoesNotFit, HubFile, NoSource, memory_needed, pick, quantisation

GB = 1_000_000_000
PREFERENCES = ("Q4_K_M", "Q4_0", "Q3_K_M", "Q2_K", "Q8_0")


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


def hub_file(path: str, size_bytes: int) -> HubFile:
    return HubFile(path, size_bytes, hashlib.sha256(path.encode()).hexdigest())


REPOSITORY = (
    hub_file("README.md", 9_000),
    hub_file("model-Q8_0.gguf", 8 * GB),
    hub_file("model-q4_k_m.gguf", 5 * GB),
    hub_file("model-Q2_K.gguf", 3 * GB),
    hub_file("mmproj-model-f16.gguf", GB),
    hub_file("imatrix_unsloth.gguf", GB // 100),
)


def paths(choice: Choice) -> list[str]:
    return [file.path for file in choice.files]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("qwen2.5-7b-instruct-q4_k_m.gguf", "Q4_K_M"),
        ("Qwen3-0.6B-Q8_0.gguf", "Q8_0"),
        ("Qwen3-8B-IQ4_XS.gguf", "IQ4_XS"),
        ("Qwen3-30B-A3B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("qwen2.5-7b-instruct-q4_k_m-00001-of-00002.gguf", "Q4_K_M"),
        ("Q6_K/Qwen3-235B-A22B-00001-of-00004.gguf", "Q6_K"),
        ("Qwen3-1.7B-BF16.gguf", "BF16"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("Qwen3.5-397B-A17B.gguf", ""),
    ],
)
def test_the_quantisation_is_read_from_the_file_name(path: str, expected: str) -> None:
    """Hubs state it nowhere else, and publishers write it in their own ways."""
    assert quantisation(path) == expected


def test_the_first_preferred_quantisation_that_fits_is_chosen() -> None:
    """The order is the catalogue's judgement of quality; the memory is the machine's."""
    choice = pick(REPOSITORY, 16 * GB, PREFERENCES, name="qwen3-8b")

    assert choice.quantisation == "Q4_K_M"
    assert paths(choice) == ["model-q4_k_m.gguf"]
    assert choice.size_bytes == 5 * GB
    assert "Q4_K_M" in choice.reason
    assert "16 GB are free" in choice.reason


def test_a_smaller_quantisation_says_which_better_one_was_too_large() -> None:
    """Who wonders at the quality should read the reason, and what memory would change it."""
    choice = pick(REPOSITORY, 5 * GB, PREFERENCES, name="qwen3-8b")

    assert choice.quantisation == "Q2_K"
    assert "Q4_K_M needs" in choice.reason


def test_memory_counts_what_a_model_takes_beyond_its_file() -> None:
    """A file that is as large as the free memory does not run in it."""
    just_enough = memory_needed(5 * GB)

    assert pick(REPOSITORY, just_enough, PREFERENCES, name="m").quantisation == "Q4_K_M"
    assert pick(REPOSITORY, just_enough - 1, PREFERENCES, name="m").quantisation == "Q2_K"


def test_too_little_memory_is_refused_with_what_is_missing() -> None:
    """A model that the machine cannot hold would only be killed after gigabytes were fetched."""
    with pytest.raises(DoesNotFit) as caught:
        pick(REPOSITORY, 2 * GB, PREFERENCES, name="qwen3-8b")

    assert caught.value.needed_bytes == memory_needed(3 * GB)
    assert "qwen3-8b" in caught.value.message
    assert "Q2_K" in caught.value.message
    assert "2.14 GB are missing" in caught.value.message


def test_quantisations_nobody_preferred_come_last_smallest_first() -> None:
    """A repository with unknown names only is better than none, and the smallest is the most likely to run."""
    files = (hub_file("m-BF16.gguf", 4 * GB), hub_file("m-UD-Q4_K_XL.gguf", 2 * GB), hub_file("m-Q8_0.gguf", 3 * GB))

    assert pick(files, 16 * GB, PREFERENCES, name="m").quantisation == "Q8_0"
    assert pick(files[:2], 16 * GB, PREFERENCES, name="m").quantisation == "UD-Q4_K_XL"


def test_a_split_model_is_taken_whole_and_in_order() -> None:
    """The engine opens the first part and looks for the others; their sizes count together."""
    second = hub_file("m-q4_k_m-00002-of-00002.gguf", GB)
    first = hub_file("m-q4_k_m-00001-of-00002.gguf", 4 * GB)

    choice = pick((second, first), 16 * GB, PREFERENCES, name="m")

    assert choice.files == (first, second)
    assert choice.size_bytes == 5 * GB


def test_a_split_model_with_a_missing_part_is_no_model() -> None:
    """Uploads break off; the part that is there would be fetched for nothing."""
    files = (hub_file("m-q4_k_m-00001-of-00002.gguf", GB), hub_file("m-Q8_0.gguf", GB))

    assert pick(files, 16 * GB, PREFERENCES, name="m").quantisation == "Q8_0"


def test_companion_files_are_never_taken_for_the_model() -> None:
    """Projectors and importance matrices have the same ending and cannot answer."""
    files = (hub_file("mmproj-F16.gguf", GB), hub_file("m.imatrix.gguf", GB), hub_file("config.json", 700))

    with pytest.raises(NoSource, match="no complete GGUF file"):
        pick(files, 16 * GB, PREFERENCES, name="m")
