"""Looking models up, and the arithmetic of their rows."""

import pytest

from hanlin.catalogue import Catalogue, Model, PriceTier, load


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


def model(**fields: object) -> Model:
    basics = {
        "name": "m",
        "family": "plus",
        "owner": "qwen",
        "description": "One.",
        "suits": ("general",),
        "grade": 3,
        "source": "https://example.org",
        "as_of": "2026-10",
    }
    return Model(**(basics | fields))  # type: ignore[arg-type]


def test_a_model_is_found_by_its_name_and_by_its_snapshot(catalogue: Catalogue) -> None:
    """Snapshots with the same behaviour are aliases, not rows of their own."""
    assert catalogue.find("qwen-plus-2025-12-01") is catalogue.find("qwen-plus") is catalogue.models["qwen-plus"]


@pytest.mark.parametrize("name", ["Qwen-Plus", "qwen-plus ", "minimax-m2.5", ""])
def test_names_are_exact(catalogue: Catalogue, name: str) -> None:
    """Model Studio's names are case sensitive, and the same name in another case would hide a mistake."""
    assert catalogue.find(name) is None


@pytest.mark.parametrize(
    ("name", "thinking", "expected"),
    [
        # temperature, top_p, top_k, presence_penalty, repetition_penalty: chat contract §3.1
        ("qwen-plus", False, (0.7, 0.8, 20, 1.5, 1.05)),
        ("qwen-plus", True, (0.6, 0.95, 20, 0.5, 1.05)),
        ("qwen-flash", False, (0.7, 0.8, 20, 1.5, 1.05)),
        ("qwen3.7-plus", True, (0.6, 0.95, 20, 0, 1.05)),
        ("qwen3-32b", True, (0.6, 0.95, 20, 0.5, 1.05)),
        ("qwen3.8-max", False, (0.7, 0.8, 20, 1.5, 1.0)),
        ("qwen3.8-max", True, (1.0, 0.95, 20, 0, 1.0)),
        ("qwen3-max-preview", True, (1.0, 1.0, 20, 1.5, 1.05)),
        ("qwen-max", False, (0.7, 0.8, 20, 1.5, 1.0)),
        ("qwq-plus", True, (0.6, 0.95, 40, 0, 1.0)),
        ("qwen-long", False, (1.0, 0.8, 20, 0, 1.05)),
        ("qwen-plus-character", False, (0.92, 0.95, 20, 0, 1.05)),
        ("qwen3-coder-plus", False, (0.7, 0.8, 20, 0, 1.1)),
        ("qwen-math-plus", False, (0, 1.0, 1, 0, 1.0)),
        ("qwen3-vl-plus", True, (0.8, 0.95, 20, 0, 1.0)),
        ("qwen-vl-max", False, (0.01, 0.001, 1, 1.5, 1.0)),
        ("qwen-vl-plus", False, (0.01, 0.001, 1, 1.5, 1.2)),
        ("qwen-vl-ocr", False, (0.01, 0.001, 1, 0, 1.0)),
        ("qwen3-omni-flash", False, (0.9, 1.0, 50, 0, 1.05)),
        ("qwen-mt-plus", False, (0.65, 0.8, 1, None, 1.0)),
        ("deepseek-v4-pro", False, (1.0, 0.95, None, 0, 1.0)),
        ("deepseek-v3", False, (0.7, 0.6, None, 0, 1.0)),
        ("deepseek-v3.1", False, (0.6, 0.95, None, 0, 1.0)),
        ("kimi-k2.6", False, (0.6, 0.95, None, 0, 1.0)),
        ("kimi-k2.6", True, (1.0, 0.95, None, 0, 1.0)),
        ("glm-5.2", False, (1.0, 0.95, 20, 0, 1.0)),
        ("glm-4.5", False, (0.6, 0.95, 20, 0, 1.0)),
        ("MiniMax-M2.5", True, (1.0, 0.95, None, 0, 1.0)),
        ("xiaomi/mimo-v2.5-pro", False, (1.0, 0.95, None, 0, None)),
        ("text-embedding-v4", False, (None, None, None, None, None)),
    ],
)
def test_sampling_defaults_are_those_of_the_vendor(
    catalogue: Catalogue, name: str, thinking: bool, expected: tuple[float | None, ...]
) -> None:
    """A program that sets nothing must get the same kind of answer here as there."""
    defaults = catalogue.sampling(catalogue.models[name], thinking=thinking)

    assert expected == (
        defaults.temperature,
        defaults.top_p,
        defaults.top_k,
        defaults.presence_penalty,
        defaults.repetition_penalty,
    )


def test_a_group_with_one_set_of_values_uses_it_in_both_modes(catalogue: Catalogue) -> None:
    """QwQ always thinks and qwen-max never does; asking for the other mode is not an error here."""
    for name in ("qwq-plus", "qwen-max"):
        row = catalogue.models[name]
        assert catalogue.sampling(row, thinking=True) == catalogue.sampling(row, thinking=False)


def test_a_model_that_always_thinks_may_be_stood_in_for(catalogue: Catalogue) -> None:
    """Whatever chats here can be made to think first, so that such a name needs nothing else."""
    assert catalogue.missing(catalogue.models["deepseek-r1"]) == ()


@pytest.mark.parametrize(
    ("name", "asked", "level"),
    [
        ("qwen3.8-max", "max", "xhigh"),
        ("qwen3.8-27b", "minimal", "low"),
        ("glm-5.2", "medium", "high"),
        ("deepseek-v4-pro", "xhigh", "max"),
        ("deepseek-v4-pro-0813", "xhigh", "high"),
        ("deepseek-v4.1-flash", "ultra", "max"),
    ],
)
def test_words_for_effort_mean_what_each_family_says(catalogue: Catalogue, name: str, asked: str, level: str) -> None:
    """Spec chat.md §5.3: the same word is another level elsewhere."""
    efforts = catalogue.efforts[catalogue.models[name].effort]

    assert efforts.aliases.get(asked, asked) == level
    assert level in efforts.levels


def test_every_model_with_levels_of_effort_names_them(catalogue: Catalogue) -> None:
    """The feature without its table would refuse every word, or take any."""
    for row in catalogue.models.values():
        assert ("reasoning_effort" in row.features) == bool(row.effort), row.name


def test_a_need_says_why_in_the_language_of_the_user(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clause ends up in an error that a person reads."""
    (need,) = catalogue.missing(catalogue.models["qwen-deep-research"])

    monkeypatch.setenv("HANLIN_LANG", "en")
    assert "no chat endpoint" in need.why
    monkeypatch.setenv("HANLIN_LANG", "zh")
    assert "没有对话接口" in need.why


def test_the_limits_of_a_thinking_call_are_its_own() -> None:
    """Reasoning takes room: the prompt may be shorter, and a row without such limits keeps the usual ones."""
    thinker = model(context_tokens=1000, max_input_tokens=900, max_input_tokens_thinking=700, max_output_tokens=100)

    assert thinker.input_limit_tokens() == 900
    assert thinker.input_limit_tokens(thinking=True) == 700
    assert thinker.output_limit_tokens(thinking=True) == 100
    assert model(context_tokens=1000).input_limit_tokens() == 1000
    assert model().input_limit_tokens() is None


def test_a_request_is_priced_at_the_tier_that_holds_its_whole_input() -> None:
    """The whole request is billed at one tier; the bound belongs to the tier below it."""
    cheap, dear = PriceTier(up_to_tokens=100, input=1, output=2), PriceTier(up_to_tokens=200, input=3, output=4)
    tiered = model(prices=(cheap, dear))

    assert tiered.price(1) == tiered.price(100) == cheap
    assert tiered.price(101) == dear
    assert tiered.price(5_000) == dear
    assert model().price(1) is None


def test_the_dearer_period_is_quoted_unless_the_other_is_asked_for() -> None:
    """A price that surprises must surprise downwards."""
    night = PriceTier(input=1, output=2, period="off-peak")
    day = PriceTier(input=2, output=4, period="peak")

    assert model(prices=(night, day)).price(10) == day
    assert model(prices=(night, day)).price(10, period="off-peak") == night
