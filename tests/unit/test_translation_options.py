"""What a caller may say about a translation, and every refusal in the vendor's words (spec/scenarios.md §1.2, §1.5)."""

from typing import Any

import msgspec
import pytest

from hanlin.errors import InvalidRequest
from hanlin.recipes.translation import languages, options
from hanlin.recipes.translation.recipe import TRANSLATION
from hanlin.types import ChatRequest, Message, TextPart
from tests.translation_bases import model_of, request_of

FLASH = model_of("qwen-mt-flash")
GOOD = {"source_lang": "auto", "target_lang": "English"}


def refusal(request: ChatRequest, model: str = "qwen-mt-flash") -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        TRANSLATION.check(request, model_of(model))
    assert (caught.value.status, caught.value.code) == (400, "invalid_parameter_error")
    return caught.value


def parsed(**more: Any) -> options.Options:
    asked = options.parse(request_of("你好", {**GOOD, **more}), FLASH)
    assert asked is not None
    return asked


def test_the_table_has_the_92_languages_of_the_page_and_the_31_of_lite() -> None:
    """Counts and a few rows of spec/scenarios.md §1.7; every name and code is unique."""
    rows = languages.languages()

    assert len(rows) == 92
    assert sum(row.lite for row in rows) == 31
    assert len({row.name for row in rows}) == len({row.code for row in rows}) == 92
    assert [row.code for row in rows[:4]] == ["en", "zh", "zh_tw", "ru"]
    assert all(row.native and row.scripts for row in rows)
    assert not any(row.lite for row in rows if row.code in ("my", "ro", "el", "yue", "cy"))


@pytest.mark.parametrize("row", languages.languages(), ids=lambda row: row.code)
def test_every_language_is_found_by_name_and_code_in_any_case(row: languages.Language) -> None:
    """The page's spelling works, and so do those that people type."""
    for word in (row.name, row.code, row.name.upper(), row.code.upper(), f" {row.name.lower()} "):
        assert languages.find(word) is row


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("zh-TW", "zh_tw"),
        ("ZH_tw", "zh_tw"),
        ("Ta’izzi-Adeni Arabic", "acq"),
        ("Persian", "fa"),
        ("western persian", "fa"),
    ],
)
def test_common_spellings_of_languages_are_taken(word: str, code: str) -> None:
    """Dashes and apostrophes differ from page to page."""
    found = languages.find(word)

    assert found is not None
    assert found.code == code


def test_options_are_read_whole() -> None:
    """Every field of the contract, and Hanlin's own."""
    asked = parsed(
        source_lang="zh",
        target_lang="Traditional Chinese",
        terms=[{"source": "a", "target": "b"}],
        tm_list=[{"source": "c", "target": "d"}],
        domains=" Law. ",
        hanlin={"split": True, "check": False, "enforce_terms": False, "report": True, "candidates": 2},
    )

    assert asked.source is languages.find("Chinese")
    assert asked.target.code == "zh_tw"
    assert asked.terms == (options.Pair("a", "b"),)
    assert asked.memory == (options.Pair("c", "d"),)
    assert asked.domains == "Law."
    assert asked.extras == options.Extras(True, False, False, True, 2)


def test_by_default_translations_are_checked_and_terms_enforced() -> None:
    """What a caller who says nothing gets is the safe half; longer texts and reports are asked for."""
    assert parsed().extras == options.Extras(split=False, check=True, enforce_terms=True, report=False, candidates=0)


def test_nulls_are_as_good_as_nothing() -> None:
    """Java's SDK sends them."""
    asked = parsed(terms=None, tm_list=None, domains=None, hanlin=None)

    assert (asked.terms, asked.memory, asked.domains) == ((), (), "")


def test_without_options_the_message_is_a_prompt_of_the_callers_own() -> None:
    """Since late 2025 that is allowed (§1.4)."""
    assert options.parse(request_of("Translate: 你好", None), FLASH) is None
    assert (
        options.parse(ChatRequest("qwen-mt-plus", (), asks={"translation_options": msgspec.Raw(b"null")}), FLASH)
        is None
    )


def test_a_system_message_is_refused_in_the_vendors_words() -> None:
    request = msgspec.structs.replace(
        request_of("你好", GOOD), messages=(Message("system", "x"), Message("user", "你好"))
    )

    error = refusal(request)
    assert (error.message, error.param) == ("Role must be in [user, assistant].", None)


@pytest.mark.parametrize("field", ["source_lang", "target_lang"])
@pytest.mark.parametrize("word", ["Klingon", "", "english language", "xx"])
def test_an_unknown_language_is_refused_in_the_vendors_words(field: str, word: str) -> None:
    assert refusal(request_of("你好", {**GOOD, field: word})).message == "暂时不支持当前设置的语种！"


def test_auto_is_a_language_of_the_source_only() -> None:
    assert refusal(request_of("你好", {**GOOD, "target_lang": "auto"})).message == "暂时不支持当前设置的语种！"


def test_lite_has_fewer_languages() -> None:
    """61 languages of the others are refused there, with the same words."""
    refused = [row.code for row in languages.languages() if not row.lite]
    for code in refused:
        request = request_of("你好", {**GOOD, "target_lang": code}, model="qwen-mt-lite")
        assert refusal(request, "qwen-mt-lite").message == "暂时不支持当前设置的语种！"
    TRANSLATION.check(request_of("你好", {**GOOD, "target_lang": "fa"}), model_of("qwen-mt-lite"))


@pytest.mark.parametrize(
    "messages",
    [
        (Message("user", "a"), Message("user", "b")),
        (Message("user", "a"), Message("assistant", "b")),
        (Message("assistant", "b"),),
        (Message("user", "a"), Message("assistant", "b"), Message("user", "c")),
        (),
    ],
)
def test_anything_but_one_users_message_is_refused(messages: tuple[Message, ...]) -> None:
    """Translations have no history: silently leaving messages out would translate something else."""
    assert refusal(msgspec.structs.replace(request_of("x", GOOD), messages=messages)).param == "messages"


def test_content_that_is_no_string_is_refused_in_the_vendors_words() -> None:
    message = Message("user", (TextPart("你好"),))

    error = refusal(msgspec.structs.replace(request_of("x", GOOD), messages=(message,)))
    assert error.message == "input content must be a string."


def test_an_empty_text_is_refused_in_the_vendors_words() -> None:
    assert refusal(request_of("", GOOD)).message == "Range of input length should be [1, 8192]"


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"target_lang": "en"}, "translation_options.source_lang"),
        ({"source_lang": "auto"}, "translation_options.target_lang"),
        ({**GOOD, "target_lang": 3}, "translation_options.target_lang"),
        ({**GOOD, "terms": "x"}, "translation_options.terms"),
        ({**GOOD, "terms": [{"source": "x"}]}, "translation_options.terms[0]"),
        ({**GOOD, "terms": [{"source": "", "target": "y"}]}, "translation_options.terms[0].source"),
        ({**GOOD, "tm_list": [{"source": "x", "target": 1}]}, "translation_options.tm_list[0].target"),
        ({**GOOD, "domains": ["x"]}, "translation_options.domains"),
        ({**GOOD, "sourceLang": "zh"}, "translation_options"),
        ({**GOOD, "hanlin": {"fast": True}}, "translation_options.hanlin"),
        ({**GOOD, "hanlin": {"candidates": 7}}, "translation_options.hanlin.candidates"),
        ({**GOOD, "terms": [{"source": "x", "target": "y"}] * 2001}, "translation_options.terms"),
    ],
)
def test_what_is_not_understood_is_refused_by_its_name(sent: dict[str, Any], param: str) -> None:
    """A misspelt field that is dropped in silence is a glossary that is not kept."""
    error = refusal(request_of("你好", sent))

    assert error.param == param
    assert param.split(".")[-1].split("[")[0] in error.message


@pytest.mark.parametrize("raw", [b"[]", b'"en"', b"3"])
def test_options_that_are_no_object_are_refused(raw: bytes) -> None:
    request = ChatRequest("qwen-mt-plus", (Message("user", "x"),), asks={"translation_options": msgspec.Raw(raw)})

    assert refusal(request).message == "translation_options must be an object"
