"""How `hanlin models` finds, sorts and words what the catalogue and the service say."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console, RenderableType

from hanlin.catalogue import Catalogue, PriceTier, choose, load
from hanlin.cli import model_views
from hanlin.cli.availability import Availability, Here, from_cards, from_rows
from hanlin.cli.models import as_data, known, mentions
from hanlin.cli.show import Failed
from hanlin.engines.llama import Machine
from hanlin.errors import StartupError
from hanlin.home import Home
from hanlin.service import preview
from hanlin.settings import DeploymentRow, Settings
from hanlin.types import Served

MACHINE = Machine(free_bytes=16 * 2**30, cores=4)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


def printed(content: RenderableType, columns: int = 80) -> str:
    console = Console(width=columns, file=io.StringIO())
    with console.capture() as page:
        console.print(content)
    return page.get()


def previewed(tmp_path: Path, catalogue: Catalogue, **settings: Any) -> Availability:
    """What a start on an empty home would answer."""
    return Availability(from_cards(preview.cards(Home(tmp_path), Settings(**settings), catalogue, MACHINE)))


# What answers each name


def test_without_a_service_the_small_model_is_expected_to_stand_in(tmp_path: Path, catalogue: Catalogue) -> None:
    """The same decision as a start would make, on a home that holds nothing yet."""
    here = previewed(tmp_path, catalogue, small=True)

    assert here.of("qwen-plus").served is Served.STAND_IN
    assert here.of("qwen-plus").by == "Qwen2.5-Coder-0.5B-Instruct Q4_K_M"
    assert here.of("qwen3-vl-plus").served is Served.UNAVAILABLE
    assert "images" in here.of("qwen3-vl-plus").why
    assert not (tmp_path / "models").exists()


def test_without_a_service_the_servers_of_the_settings_count(tmp_path: Path, catalogue: Catalogue) -> None:
    """Nothing is asked of them: a preview must not hang on a server that is away."""
    row = DeploymentRow("gpu", "http://192.0.2.1:8000/v1", serves=("qwen3-*",), context_tokens=40_960)

    here = previewed(tmp_path, catalogue, embedded=False, deployment=(row,))

    assert here.of("qwen3-max") == Here(Served.UPSTREAM, "gpu", "gpu", context_tokens=40_960)
    assert here.of("qwen-plus").served is Served.UNAVAILABLE


def test_weights_that_are_not_here_stop_the_preview_as_they_would_stop_the_start(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    """A list that assumed them would promise what a start refuses."""
    with pytest.raises(StartupError, match="hanlin pull qwen3-8b"):
        previewed(tmp_path, catalogue, weights=("qwen3-8b",))


def row(name: str, **hanlin: Any) -> Mapping[str, Any]:
    return {"id": name, "object": "model", "created": 1, "owned_by": "qwen", "hanlin": hanlin}


def test_a_running_service_says_itself_what_answers() -> None:
    """Its flags, and what has become of its engines, are known to nobody else."""
    names = from_rows(
        [
            row("qwen-plus", served="stand-in", by="Small", fingerprint="small@0123", why=None, context_tokens=8192),
            row("qwen-mt-plus", served="unavailable", by=None, why="it translates", promises={"thinking": "none"}),
        ]
    )

    assert names["qwen-plus"] == Here(Served.STAND_IN, "Small", "small@0123", "", 8192)
    assert names["qwen-mt-plus"] == Here(Served.UNAVAILABLE, why="it translates")


def test_a_list_without_our_statement_is_not_taken_for_one() -> None:
    """Some other server may have taken the port."""
    with pytest.raises(Failed, match="not Hanlin's"):
        from_rows([{"id": "gpt-x", "object": "model"}])


def test_a_name_that_the_service_does_not_list_is_unavailable_and_says_so() -> None:
    """The service may be of another release."""
    here = Availability({})

    assert here.of("qwen9").served is Served.UNAVAILABLE
    assert here.of("qwen9").why


# Finding names


@pytest.mark.parametrize(
    ("word", "name", "found"),
    [
        ("QWEN-PLUS", "qwen-plus", True),
        ("2025", "qwen3-max", False),
        ("2026-01-23", "qwen3-max", True),
        ("翻译", "qwen-mt-plus", True),
        ("translation", "qwen-mt-plus", True),
        ("web_search", "qwen3-max", True),
        ("", "qwen-plus", True),
        ("nothing-of-the-kind", "qwen-plus", False),
    ],
)
def test_a_word_is_found_in_names_aliases_purposes_and_features(
    word: str, name: str, found: bool, catalogue: Catalogue
) -> None:
    """People remember a purpose sooner than a name."""
    model = catalogue.find(name)
    assert model is not None

    assert mentions(model, catalogue, word) is found


def test_a_misspelt_name_is_answered_with_those_that_look_like_it(catalogue: Catalogue) -> None:
    """Case counts in names, so a name in the wrong case is close, not equal."""
    with pytest.raises(Failed, match=r"did you mean .*qwen3-max"):
        known("Qwen3-Max", catalogue)
    with pytest.raises(Failed, match="hanlin models"):
        known("zzzzzzzz", catalogue)


def test_an_alias_finds_its_model(catalogue: Catalogue) -> None:
    """Programs call models by dated names."""
    assert known("qwen3-max-2026-01-23", catalogue).name == "qwen3-max"


# Wording


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        *[(None, "?"), (512, "512"), (8_192, "8K"), (32_000, "32K"), (131_072, "128K"), (262_144, "256K")],
        *[(1_000_000, "1M"), (1_048_576, "1M"), (10_000_000, "10M"), (991_808, "992K"), (12_345, "12.3K")],
    ],
)
def test_token_counts_are_short(tokens: int | None, text: str) -> None:
    """The list has seven columns for them."""
    assert model_views.short_count(tokens) == text


@pytest.mark.parametrize(
    ("tier", "text"),
    [(None, "–"), (PriceTier(0.5), "0.5"), (PriceTier(2.5, 10.0), "2.5/10")],
)
def test_prices_are_input_and_output(tier: PriceTier | None, text: str) -> None:
    """An embedding has no output to be paid for."""
    assert model_views.short_price(tier) == text


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_list_fits_and_names_every_model_once(
    columns: int, language: str, tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is cut cannot be copied."""
    monkeypatch.setenv("HANLIN_LANG", language)
    here = previewed(tmp_path, catalogue)

    page = printed(model_views.table(list(catalogue.models.values()), catalogue, here), columns)

    first_words = [line.split()[0] for line in page.splitlines() if line.startswith(" ")]
    assert set(catalogue.models) <= set(first_words)
    assert max(map(cell_len, page.splitlines())) <= columns
    standing_in = sum(here.of(name).served is Served.STAND_IN for name in catalogue.models)
    assert f"{standing_in} stand-in" in page


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_model_can_be_shown_in_full(
    language: str, tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows differ in what they leave out; none may break the page."""
    monkeypatch.setenv("HANLIN_LANG", language)
    here = previewed(tmp_path, catalogue)

    for name, model in catalogue.by_name.items():
        page = printed(model_views.card(name, model, catalogue, here.of(name)))

        assert page.startswith(name)
        assert here.of(name).served in page
        assert model.as_of in page.replace("\n", "").replace(" ", "")


def test_the_page_of_a_stand_in_says_how_to_get_the_models_own_weights(tmp_path: Path, catalogue: Catalogue) -> None:
    """And the page of a name that nothing answers says what would."""
    here = previewed(tmp_path, catalogue)

    open_model = printed(
        model_views.card("qwen3-8b", known("qwen3-8b", catalogue), catalogue, here.of("qwen3-8b")), 200
    )
    vision = printed(
        model_views.card("qwen3-vl-plus", known("qwen3-vl-plus", catalogue), catalogue, here.of("qwen3-vl-plus")), 200
    )

    assert "hanlin pull qwen3-8b && hanlin serve --weights qwen3-8b" in open_model
    assert "remedy" in vision


def test_programs_get_the_whole_row_and_what_answers_it(catalogue: Catalogue) -> None:
    """Whatever the catalogue learns is there without a change of the command."""
    model = known("qwen3-max", catalogue)

    data = as_data(model, Here(Served.STAND_IN, "Small"))

    assert data["here"]["served"] == "stand-in"
    assert data["prices"][0]["input"] == 2.5
    assert set(data) == {*model.__struct_fields__, "here"}


# Recommending


def recommended(task: str, here: Availability, catalogue: Catalogue) -> str:
    tokens = catalogue.tasks.understand(task).tokens
    found = choose(task, catalogue, served=lambda model: here.served_at(model, tokens))
    return printed(model_views.recommendations(found, here, tokens))


def test_recommendations_give_their_reasons_and_the_call_that_tries_one(tmp_path: Path, catalogue: Catalogue) -> None:
    """Whoever asks what to take wants to know why, and to try it."""
    page = recommended("翻译合同", previewed(tmp_path, catalogue), catalogue)

    assert page.startswith("1. qwen-mt-plus  stand-in")
    assert "· good at translation" in page
    assert "list price 1.8 in, 5.4 out" in page
    assert page.rstrip().endswith("try it: hanlin chat --model qwen-mt-plus")


def test_a_stand_in_is_not_offered_for_a_text_that_it_has_no_room_for(tmp_path: Path, catalogue: Catalogue) -> None:
    """Names take a million tokens, what answers here sixteen thousand; one that reads files looks things up in them."""
    page = recommended("summarise 200 pages", previewed(tmp_path, catalogue), catalogue)

    assert "1. qwen-long  stand-in" in page
    assert "what answers here takes 16,384 tokens only" in page
    assert page.rstrip().endswith("try it: hanlin chat --model qwen-long")
