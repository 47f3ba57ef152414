"""The catalogue's data against what it was made from: the specification's own list, and facts that stay known."""

import json
from pathlib import Path
from typing import Any

import pytest

from hanlin.catalogue import Catalogue, Model, PriceTier, load

SPECIFICATION = Path(__file__).parents[2].parent / "shared" / "spec" / "models.json"

FIELDS = {
    "id": "name",
    "context_window": "context_tokens",
    "unconfirmed_fields": "unconfirmed",
    "price_cny_per_mtok": "prices",
}
SAME = (
    "family",
    "owner",
    "description",
    "max_input_tokens",
    "max_output_tokens",
    "max_reasoning_tokens",
    "max_input_tokens_thinking",
    "max_output_tokens_thinking",
    "thinking",
    "stream_only",
    "open_weights",
    "open_weights_match",
    "endpoint",
    "source",
    "as_of",
)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


def test_every_name_ever_listed_is_known(catalogue: Catalogue) -> None:
    """Programs written for Model Studio keep their model names, withdrawn ones too."""
    assert len(catalogue.models) == 168
    assert len(catalogue.names()) == 202


def test_a_well_known_row_says_what_its_pages_say(catalogue: Catalogue) -> None:
    """One row in full, so that a shift of columns shows without the specification at hand."""
    model = catalogue.models["qwen-plus"]

    assert model.aliases == ("qwen-plus-2025-12-01", "qwen-plus-2025-04-28")
    assert (model.family, model.owner, model.thinking) == ("plus", "qwen", "hybrid-default-off")
    assert (model.context_tokens, model.max_input_tokens, model.max_output_tokens) == (1_000_000, 997_952, 32_768)
    assert (model.max_input_tokens_thinking, model.max_reasoning_tokens) == (995_904, 81_920)
    assert model.prices[0] == PriceTier(
        up_to_tokens=131_072,
        input=0.8,
        output=2,
        output_thinking=8,
        cached_input=0.16,
        cache_create=1,
        cache_hit=0.08,
        batch_input=0.4,
        batch_output=1,
    )
    assert model.open_weights == "Qwen/Qwen3-235B-A22B"
    assert model.open_weights_match == "closest"


def test_sources_are_written_out_as_addresses(catalogue: Catalogue) -> None:
    """Rows abbreviate their sources; whoever doubts a fact needs the address."""
    for model in catalogue.models.values():
        assert model.source.startswith("https://")
        assert not model.lifecycle.source or model.lifecycle.source.startswith("https://")


def test_every_chat_model_has_sampling_defaults(catalogue: Catalogue) -> None:
    """A call without sampling parameters is drawn as the vendor draws it, so each chat row must say how."""
    for model in catalogue.models.values():
        defaults = catalogue.sampling(model, thinking=False)
        assert (defaults.temperature is not None) == model.chats


def test_what_cannot_be_done_in_text_names_its_need(catalogue: Catalogue) -> None:
    """A text model must not answer for a name whose callers send images or audio, or use another endpoint."""
    expected = {
        "qwen3-vl-plus": ("image",),
        "qwen2.5-vl-3b-instruct": ("image",),
        "vanchin/deepseek-ocr": ("image",),
        "gui-plus": ("image",),
        "qvq-max": ("image",),
        "qwen3-vl-8b-thinking": ("image",),
        "qwen-omni-turbo": ("audio",),
        "qwen2.5-omni-7b": ("audio",),
        "qwen3-omni-30b-a3b-captioner": ("audio",),
        "qwen-mt-plus": (),
        "qwen-deep-research": ("research",),
        "text-embedding-v4": ("embedding",),
        "deepseek-r1": (),
        "qwen-plus": (),
        "qwen-long": (),
        "qwen3.8-max": (),
        "kimi-k2.6": (),
    }

    assert {name: catalogue.models[name].needs for name in expected} == expected


def test_general_models_that_also_see_may_be_stood_in_for(catalogue: Catalogue) -> None:
    """Most calls to them are plain text; calls with images are refused one by one."""
    seeing = [model for model in catalogue.models.values() if "image" in model.input_modalities and model.chats]

    assert {model.name for model in seeing if not catalogue.missing(model)} >= {"qwen3.7-plus", "qwen3.8-27b"}


NAMED_IN_THE_TEXT = {
    *("qwen-coder-turbo-latest", "qwen-coder-turbo-0919", "qwen-plus-2025-04-28"),
    *("qwen-long-2025-01-25", "qwen-long-0125"),
}
"""Names that the text of the specification calls, and its list of models does not have (chat.md §5.2, §11.2;
scenarios.md §2.1, §0.3)."""

BEYOND = {"fill_in_the_middle", "partial_mode"}
"""Features that the text of the specification gives to models whose entries do not list them (chat.md §3, §6, §11)."""

if SPECIFICATION.exists():
    ENTRIES: list[dict[str, Any]] = json.loads(SPECIFICATION.read_text(encoding="utf-8"))

    def test_the_catalogue_holds_the_entries_of_the_specification_and_no_others(catalogue: Catalogue) -> None:
        """Nothing was lost or added on the way into TOML."""
        assert set(catalogue.models) == {entry["id"] for entry in ENTRIES}

    @pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
    def test_a_row_says_what_the_specification_says(catalogue: Catalogue, entry: dict[str, Any]) -> None:
        """Field by field: the rows were converted once and are edited by hand since."""
        model = catalogue.models[entry["id"]]

        assert {name: getattr(model, name) for name in SAME} == {name: entry[name] for name in SAME}
        assert model.context_tokens == entry["context_window"]
        assert list(model.aliases[: len(entry["aliases"])]) == entry["aliases"]
        assert set(model.aliases[len(entry["aliases"]) :]) <= NAMED_IN_THE_TEXT
        assert list(model.input_modalities) == entry["input_modalities"]
        assert list(model.output_modalities) == entry["output_modalities"]
        features = entry["features"]
        assert list(model.features[: len(features)]) == features
        assert set(model.features[len(features) :]) <= BEYOND
        assert model.notes == (entry["notes"] or "")
        assert {"rpm": model.rpm, "tpm": model.tpm} == entry["rate_limit"]
        assert lifecycle(model) == entry["lifecycle"]
        assert set(model.unconfirmed) == unconfirmed(entry)
        assert [tier(one) for one in model.prices] == [without_nulls(one) for one in entry["price_cny_per_mtok"]]


def lifecycle(model: Model) -> dict[str, str | None]:
    date = model.lifecycle.date
    return {
        "status": model.lifecycle.status,
        "date": date.isoformat() if date else None,
        "source": model.lifecycle.source or None,
    }


def unconfirmed(entry: dict[str, Any]) -> set[str]:
    names = [FIELDS.get(name, name) for name in entry["unconfirmed_fields"]]
    return {part for name in names for part in (("rpm", "tpm") if name == "rate_limit" else (name,))}


def tier(prices: PriceTier) -> dict[str, Any]:
    named = {name: getattr(prices, name) for name in prices.__struct_fields__}
    return without_nulls({"up_to_input_tokens": named.pop("up_to_tokens"), **named})


def without_nulls(pairs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in pairs.items() if value is not None}
