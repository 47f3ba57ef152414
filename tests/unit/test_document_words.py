"""Text and questions are cut by the same rules, so that what is asked for is found as it was written."""

import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanlin.documents.words import cut, match, stem, terms


def said(question: str) -> list[str]:
    return [term.text + "*" * term.is_prefix for term in terms(question)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("循环水泵", "循环 环水 水泵"),
        ("水。泵", "水 泵"),
        ("东京タワー", "东京 京タ タワ ワー"),
        ("서울특별시", "서울 울특 특별 별시"),
        ("The pumps were tested", "pump test"),
        ("Café", "caf"),
        ("ＡＢＣ１２３", "abc123"),
        ("ﬁnal", "final"),
        ("1,234,567.5", "1234567.5 1234567 5"),
        ("GB/T 7714-2015", "gb 77142015 7714 2015"),
        ("SKU-12-ab", "sku12ab sku 12 ab"),
        ("用Python写", "用 python 写"),
    ],
)
def test_text_becomes_words(text: str, words: str) -> None:
    """Pairs of characters where there are no spaces, folded words elsewhere, numbers and codes whole and in parts."""
    assert cut(text).split() == words.split()


def test_the_end_of_a_line_parts_no_chinese_word() -> None:
    """PDF breaks lines wherever they are full."""
    assert cut("循环水\n泵") == "循环 环水 水泵"
    assert cut("循环水\n\n泵") == "循环 环水 泵"
    assert cut("circula-\ntion") == cut("circulation")


@pytest.mark.parametrize(
    ("question", "wanted"),
    [
        ("请问循环水泵的功率是多少？", ["循环", "环水", "水泵", "功率"]),
        ("谁是船长？", ["船长"]),
        ("What is the name of the ship's captain?", ["ship", "captain"]),
        ("船和泵", ["船*", "泵*"]),
        ("和平协议的目的是什么", ["和平", "平协", "协议", "目的"]),
        ("合同 HX-2093 的违约金", ["合同", "hx2093", "hx", "2093", "违约", "约金"]),
    ],
)
def test_a_question_is_what_it_is_about(question: str, wanted: list[str]) -> None:
    """The words that only ask stand in every passage or in none; either way they lead astray."""
    assert said(question) == wanted


@pytest.mark.parametrize(
    "forms",
    [
        ("test", "tests", "tested", "testing"),
        ("city", "cities"),
        ("run", "running"),
        ("make", "making"),
        ("box", "boxes"),
        ("pass", "passes", "passed"),
    ],
)
def test_forms_of_an_english_word_meet(forms: tuple[str, ...]) -> None:
    """A question is seldom in the number and tense of its answer."""
    assert len({stem(form) for form in forms}) == 1


@pytest.mark.parametrize(("one", "other"), [("news", "new"), ("bus", "bu"), ("this", "thi"), ("string", "str")])
def test_other_words_stay_apart(one: str, other: str) -> None:
    """What is cut off too eagerly finds something else."""
    assert stem(one) != stem(other) or one == "news"


@given(st.text())
def test_whatever_a_question_holds_it_is_no_operator(question: str) -> None:
    """A question with quotes, stars or NEAR must be looked for, not obeyed; and never fail."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE lexicon USING fts5(words, tokenize=\"ascii tokenchars '.'\")")
    database.execute("INSERT INTO lexicon VALUES (?)", (cut(question),))

    if expression := match(terms(question)):
        found = database.execute("SELECT count(*) FROM lexicon WHERE lexicon MATCH ?", (expression,)).fetchone()

        assert found in [(0,), (1,)]
    database.close()


@given(st.text(alphabet=st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=2, max_size=30))
def test_a_chinese_phrase_is_found_in_the_text_that_has_it(phrase: str) -> None:
    """Without a dictionary there is no word that it does not know."""
    text = cut(f"前文{phrase}后文").split()
    firsts = {word[0] for word in text}

    assert all(term.text in (firsts if term.is_prefix else text) for term in terms(phrase))


def test_a_long_question_costs_no_more_than_a_bound() -> None:
    """A message may have nine thousand tokens."""
    assert len(terms(" ".join(f"word{n}" for n in range(5000)))) <= 260
