"""Glossaries: where terms occur, which forms of them count, and how one takes another word's place."""

import pytest

from hanlin.recipes.translation import languages, terms
from hanlin.recipes.translation.languages import Language
from hanlin.recipes.translation.memory import Memory, chrf
from hanlin.recipes.translation.options import Pair


def language(word: str) -> Language:
    found = languages.find(word)
    assert found is not None
    return found


def places(text: str, *pairs: tuple[str, str], source: str = "en") -> dict[str, list[str]]:
    found = terms.uses(text, [Pair(*pair) for pair in pairs], language(source))
    return {use.term.source: [text[start:end] for start, end in use.places] for use in found}


@pytest.mark.parametrize(
    ("text", "term", "found"),
    [
        ("The databases are full.", "database", ["databases"]),
        ("Two factories and a FACTORY", "factory", ["factories", "FACTORY"]),
        ("He installed it while installing that.", "install", ["installed", "installing"]),
        ("A data base is no such thing.", "database", []),
        ("The serverless server", "server", ["server"]),
        ("women and a woman", "woman", ["women", "woman"]),
        ("State-of-the-art C++ code", "C++", ["C++"]),
        ("the power   cells", "power cell", ["power   cells"]),
        ("ＡＰＩ keys", "api", ["ＡＰＩ"]),
        ("the category of cats", "cat", ["cats"]),
    ],
)
def test_an_english_term_is_found_in_its_forms_and_not_within_other_words(
    text: str, term: str, found: list[str]
) -> None:
    """ "databases" is a use of "database", "serverless" none of "server"."""
    assert places(text, (term, "x")).get(term, []) == found


@pytest.mark.parametrize(
    ("text", "term", "source", "hit"),
    [
        ("В базе данных есть ошибка.", "база данных", "ru", True),
        ("Die Datenbanken sind voll.", "Datenbank", "de", True),
        ("Los servidores nuevos", "servidor", "es", True),
        ("فتحت المستودع", "مستودع", "ar", True),
        ("云服务器坏了", "服务器", "zh", True),
        ("서버를 켰다", "서버", "ko", True),
        ("Das Band ist neu.", "Bank", "de", False),
    ],
)
def test_terms_of_other_languages_are_found_in_their_forms(text: str, term: str, source: str, hit: bool) -> None:
    """Endings change, particles and articles are attached: a glossary names the plain form."""
    assert bool(places(text, (term, "x"), source=source)) is hit


def test_what_is_kept_to_the_letter_has_no_terms() -> None:
    """A glossary for "example" must not change the address of example.com, nor the code in a manual."""
    text = "See https://example.com/test for an example, and run `make test`."

    assert places(text, ("example", "样例"), ("test", "测试")) == {"example": ["example"]}
    [use] = terms.uses(text, [Pair("example", "样例")], language("en"))
    assert terms.switched(text, [use], language("zh")) == text.replace("an example", "an 样例")


def test_the_longer_of_two_terms_at_one_place_counts() -> None:
    """A cloud server is no server with a cloud in front."""
    pairs = (("服务器", "host"), ("云服务器", "cloud host"))

    assert places("云服务器和服务器", *pairs, source="zh") == {"服务器": ["服务器"], "云服务器": ["云服务器"]}
    assert places("云服务器", *pairs, source="zh") == {"云服务器": ["云服务器"]}


def test_a_term_that_was_not_kept_is_found_out() -> None:
    """In its forms it is kept; another word for it is not."""
    [use] = terms.uses("数据库", [Pair("数据库", "data store")], language("zh"))

    assert terms.missing("All data stores are full.", [use], language("en")) == ()
    assert terms.missing("A Data Store is full.", [use], language("en")) == ()
    assert terms.missing("All databases are full.", [use], language("en")) == (use,)
    assert terms.missing("The metadata storefront", [use], language("en")) == (use,)


def test_a_term_of_two_sentences_is_kept_in_both() -> None:
    """A second time in one sentence may be a pronoun, in another sentence it may not."""
    pair = [Pair("数据库", "data store")]
    [twice] = terms.uses("数据库满了。数据库坏了。", pair, language("zh"))
    [once] = terms.uses("数据库满了，数据库坏了。", pair, language("zh"))

    assert terms.missing("The data store is full. It broke.", [twice], language("en")) == (twice,)
    assert terms.missing("The data store is full and broken.", [once], language("en")) == ()


def test_the_source_is_shown_with_its_terms_translated() -> None:
    """With spaces where the target needs them, and nothing else changed."""
    chinese = terms.uses("把数据库搬走。", [Pair("数据库", "data store")], language("zh"))
    english = terms.uses("Move the databases.", [Pair("database", "资料库")], language("en"))

    assert terms.switched("把数据库搬走。", chinese, language("en")) == "把 data store 搬走。"
    assert terms.switched("Move the databases.", english, language("zh")) == "Move the 资料库."
    assert terms.switched("把数据库搬走。", chinese, language("en"), tag="t") == "把<t>data store</t>搬走。"


@pytest.mark.parametrize(
    ("draft", "words", "term", "result"),
    [
        ("Both servers are old.", "server", "host machine", "Both host machines are old."),
        ("Servers are old.", "server", "host", "Hosts are old."),
        ("An engineer came.", "engineer", "field technician", "A field technician came."),
        ("A nurse came.", "nurse", "attendant", "An attendant came."),
        ("The batteries died.", "battery", "power supply", "The power supplies died."),
        ("Use macOS here.", "macOS", "iPadOS", "Use iPadOS here."),
        ("Nothing fits.", "server", "host", None),
    ],
)
def test_a_term_takes_a_words_place_in_its_form(draft: str, words: str, term: str, result: str | None) -> None:
    """The sentence stays a sentence: number, article and capital are those of what was there."""
    assert terms.put(draft, words, term, language("en"), limit=1) == result


def test_terms_with_capitals_of_their_own_are_written_so() -> None:
    """iOS is no sentence's beginning."""
    [use] = terms.uses("苹果系统", [Pair("苹果系统", "iOS")], language("zh"))

    assert terms.exact("An IOS device", [use], language("en")) == "An iOS device"


def test_chrf_is_100_for_the_same_and_falls_with_every_difference() -> None:
    """Values of the published definition (orders 1 to 6, beta 2)."""
    assert chrf("the cat sat", "the cat sat") == pytest.approx(100)
    assert chrf("abc", "xyz") == 0
    assert chrf("", "xyz") == 0
    assert 40 < chrf("the cat sat", "the cat ran") < 80


def test_the_memory_finds_the_same_sentence_and_the_nearest_ones() -> None:
    """Width, case and blank space are no difference; what has nothing in common is no example."""
    pairs = [Pair("Open the  door.", "开门。"), Pair("Open the window.", "开窗。"), Pair("数据", "data")]
    memory = Memory(pairs)

    assert memory.known("ｏpen the door.") == "开门。"
    assert memory.known("Close the door.") is None
    assert [pair.target for pair in memory.near("Open the window now.")] == ["开门。", "开窗。"]
