"""Recommending models for a task said in plain words, in both languages."""

import pytest

from hanlin.catalogue import Catalogue, Model, choose, load
from hanlin.types import Served


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


def best(task: str, catalogue: Catalogue, served: Served = Served.UPSTREAM) -> str:
    return choose(task, catalogue, served=lambda _model: served)[0].model.name


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("翻译合同", "qwen-mt-plus"),
        ("translate a contract into Japanese", "qwen-mt-plus"),
        ("从简历中抽取字段", "qwen-doc-turbo"),
        ("data mining over customer reviews", "qwen-doc-turbo"),
        ("日语角色扮演", "qwen-plus-character-ja"),
        ("role play with a consistent persona", "qwen-plus-character"),
        ("意图识别", "tongyi-intent-detect-v3"),
        ("detect the intent of a message", "tongyi-intent-detect-v3"),
        ("深入研究新能源行业", "qwen-deep-research"),
        ("deep research on batteries", "qwen-deep-research"),
        ("解奥数题", "qwen-math-plus"),
        ("solve equations", "qwen-math-plus"),
        ("识别发票上的文字", "qwen-vl-ocr"),
        ("OCR of receipts", "qwen-vl-ocr"),
        ("图片理解", "qwen3-vl-plus"),
        ("semantic search over our wiki", "text-embedding-v4"),
        ("知识库检索的向量", "text-embedding-v4"),
        ("法律咨询", "farui-plus"),
        ("客服通话分析", "tongyi-xiaomi-analysis-flash"),
        ("整本书问答", "qwen-long"),
        ("questions about a 10 million token archive", "qwen-long"),
        ("便宜的聊天", "qwen3.7-flash"),
        ("something cheap and fast", "qwen3.7-flash"),
    ],
)
def test_the_model_that_was_made_for_a_task_comes_first(catalogue: Catalogue, task: str, name: str) -> None:
    """People name what they want done, in Chinese or English, and expect the specialist."""
    assert best(task, catalogue) == name


@pytest.mark.parametrize("task", ["写一个 Python 程序", "refactor this code"])
def test_code_goes_to_models_that_are_good_at_code(catalogue: Catalogue, task: str) -> None:
    """Which of several good ones comes first is a matter of price and lifecycle."""
    for one in choose(task, catalogue, served=lambda _model: Served.UPSTREAM):
        assert "code" in one.model.suits


def test_a_text_that_names_no_task_gets_a_general_model(catalogue: Catalogue) -> None:
    """An answer is always better than a question back."""
    first = choose("你好", catalogue, served=lambda _model: Served.STAND_IN)[0]

    assert "general" in first.model.suits
    assert first.reasons[0] == "nothing in the task asks for a specialist"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("总结10万字的小说", 70_000),
        ("1.5万字", 10_500),
        ("二十万字", 140_000),
        ("百万字的语料", 700_000),
        ("一篇三千字的文章", 2_100),
        ("summarise 200 pages", 140_000),
        ("a 300-page book", 210_000),
        ("50k tokens of logs", 50_000),
        ("1,000,000 tokens", 1_000_000),
        ("2 million words", 3_000_000),
        ("128K 上下文", 128_000),
        ("两本书", 400_000),
        ("5 pages and then 20 pages", 14_000),
        ("top 10 ideas for 3 people", 0),
        ("写代码", 0),
    ],
)
def test_lengths_are_understood_as_people_write_them(catalogue: Catalogue, text: str, tokens: int) -> None:
    """The room that a model must have follows from the length that the text names."""
    assert catalogue.tasks.tokens(text) == tokens


def test_models_without_the_room_are_left_out(catalogue: Catalogue) -> None:
    """A translation model that takes 8,192 tokens cannot translate a novel, however good it is."""
    for one in choose("翻译20万字的小说", catalogue, served=lambda _model: Served.UPSTREAM, limit=20):
        room = one.model.input_limit_tokens()
        assert room is None or room >= 140_000


def test_nothing_is_recommended_for_what_nothing_can_take(catalogue: Catalogue) -> None:
    """An empty answer is honest."""
    assert choose("summarise 900 million tokens", catalogue, served=lambda _model: Served.UPSTREAM) == []


def test_what_runs_here_is_preferred(catalogue: Catalogue) -> None:
    """Of two equal models the one that runs on this machine needs nothing further."""

    def only_the_small_one(model: Model) -> Served:
        return Served.EXACT if model.name == "qwen2.5-math-7b-instruct" else Served.UNAVAILABLE

    first = choose("数学题", catalogue, served=only_the_small_one)[0]

    assert first.model.name == "qwen2.5-math-7b-instruct"
    assert first.reasons[-1] == "its own published weights run here"


def test_a_stand_in_is_no_answer_to_a_task_with_images(catalogue: Catalogue) -> None:
    """It reads text only, so that it must not be recommended for pictures."""
    for one in choose("describe a photo", catalogue, served=lambda _model: Served.STAND_IN):
        assert one.served is Served.UNAVAILABLE
        assert one.reasons[-1] == "not available here yet"


def test_weights_that_would_serve_a_task_are_named_with_their_command(catalogue: Catalogue) -> None:
    """The shortest way to the model is one line that can be pasted."""

    def nothing(_model: Model) -> Served:
        return Served.UNAVAILABLE

    for one in choose("数学题", catalogue, served=nothing):
        assert one.reasons[-1] == f"not here yet: hanlin pull {one.model.name}"


def test_one_recommendation_can_be_used_at_once(catalogue: Catalogue) -> None:
    """Where all specialists are out of reach, the last place goes to something that answers."""

    def without_translation(model: Model) -> Served:
        return Served.UNAVAILABLE if model.needs or model.recipe == "translation" else Served.STAND_IN

    first, second, last = choose("翻译合同", catalogue, served=without_translation)

    assert (first.served, second.served) == (Served.UNAVAILABLE, Served.UNAVAILABLE)
    assert last.served is Served.STAND_IN
    assert last.reasons[0] == "a general model that does translation too"


def test_withdrawn_models_come_late_and_say_so(catalogue: Catalogue) -> None:
    """They are kept for programs that name them; new programs should name others."""
    found = choose("translation", catalogue, served=lambda _model: Served.UPSTREAM, limit=100)
    names = [one.model.name for one in found]

    assert names.index("qwen-mt-lite") < names.index("qwen-max")
    (late,) = (one for one in found if one.model.name == "qwen-max")
    assert "withdrawn by the vendor on 2026-07-13" in late.reasons


def test_a_rolling_alias_does_not_take_a_second_place(catalogue: Catalogue) -> None:
    """Three names for one offer are not three recommendations."""
    names = [one.model.name for one in choose("长文档", catalogue, served=lambda _model: Served.UPSTREAM)]

    assert "qwen-long" in names
    assert "qwen-long-latest" not in names


def test_reasons_name_fit_room_price_and_what_answers(catalogue: Catalogue) -> None:
    """Whoever chooses differently needs the facts that were weighed."""
    first = choose("summarise 10万字", catalogue, served=lambda _model: Served.STAND_IN)[0]

    assert first.reasons[0] == "good at summaries"
    assert first.reasons[1].endswith("the task needs about 70,000")
    assert first.reasons[2].startswith("list price ")
    assert first.reasons[-1].startswith("a stand-in answers here")


def test_reasons_are_chinese_for_a_chinese_user(catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch) -> None:
    """The language is the user's, whatever language the task is in."""
    monkeypatch.setenv("HANLIN_LANG", "zh")

    first = choose("translate", catalogue, served=lambda _model: Served.UNAVAILABLE)[0]

    assert first.reasons == (
        "擅长翻译",
        "官方价每百万 token：输入 1.8 元，输出 5.4 元",
        "此处尚不可用",
    )


def test_the_same_question_gets_the_same_answer(catalogue: Catalogue) -> None:
    """Scripts compare, and equal scores must not change places."""
    first = choose("写一篇文案", catalogue, served=lambda _model: Served.UPSTREAM, limit=50)

    assert choose("写一篇文案", load(), served=lambda _model: Served.UPSTREAM, limit=50) == first


def test_words_inside_other_words_are_not_keywords(catalogue: Catalogue) -> None:
    """A guide is not a GUI, and a lawn is not law."""
    for text in ("a guide to lawns", "charters and decoders", "storage"):
        assert [task.name for task in catalogue.tasks.understand(text).tasks] == ["general"]
