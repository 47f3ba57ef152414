"""Claims of an answer are held against what the model was given, while the answer is written."""

import pytest

from hanlin.recipes.long_documents.claims import Fault, Gate, Supplied, numeral

TEXT = (
    "合同金额为12,345.60元，签于2024年3月5日，编号XK-4471。负责人 Alice Brown，共三百二十人。"
    "There are twenty-five boxes. 详见《云杉手册》。"
)


def passed(text: str, supplied: Supplied | None = None, *, size: int = 1) -> tuple[str, Fault | None]:
    """Return what leaves of an answer that comes in pieces of so many characters, and what stopped it."""
    gate = Gate(supplied or Supplied(TEXT, frozenset({3, 4})))
    out = ""
    for at in range(0, len(text), size):
        out += gate.feed(text[at : at + size])
        if gate.fault:
            return out, gate.fault
    return out + gate.close(), gate.fault


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
@pytest.mark.parametrize(
    "text",
    [
        "金额是12345.6元（第3页）。",
        "金额约1.23456万元，签于2024年3月5日。",
        "编号XK-4471，见《云杉手册》第3-4页。",
        "Alice Brown counted 25 boxes (p. 4) and 320 people.",
        "1. 一\n2. 二\n12. 三",
    ],
)
def test_what_the_text_holds_passes_in_whatever_pieces_it_comes(text: str, size: int) -> None:
    """Numbers are numbers in any spelling: separators, ten thousands, Chinese numerals, words."""
    assert passed(text, size=size) == (text, None)


@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    ("text", "before", "kind"),
    [
        ("金额是99元。", "金额是", "number"),
        ("编号XK-4472。", "编号", "code"),
        ("见第5页。", "见", "page"),
        ("答案是甲（第7页）。", "答案是甲", "page"),
        ("says Bob Stone there", "says ", "name"),
        ("见《云杉年鉴》。", "见", "title"),
        ("see page 5", "see ", "page"),
    ],
)
def test_what_the_text_does_not_hold_has_not_left_when_it_is_found(
    text: str, before: str, kind: str, size: int
) -> None:
    """What has left cannot be taken back: a reader of a stream would have seen the wrong number."""
    out, fault = passed(text, size=size)

    assert (out, fault and fault.kind) == (before, kind)


def test_text_without_claims_leaves_at_once() -> None:
    """Holding everything back until a sentence ends would be no stream."""
    gate = Gate(Supplied(TEXT))

    assert gate.feed("合同由双方签署") == "合同由双方签署"


def test_sums_are_no_claims_where_the_question_asks_for_them() -> None:
    """The total of two figures stands nowhere, and is right."""
    assert passed("共99元", Supplied(TEXT, derives=True)) == ("共99元", None)


def test_names_are_no_claims_in_another_language() -> None:
    """A Chinese name is spelt in Latin letters in an English answer, and stands nowhere."""
    assert passed("Lu Mingyuan keeps it", Supplied(TEXT, translated=True)) == ("Lu Mingyuan keeps it", None)
    assert passed("Lu Mingyuan keeps it")[1] is not None


def test_an_unbacked_page_can_be_left_out_and_the_rest_goes_on() -> None:
    """The second time the answer is better without it than without an end."""
    gate = Gate(Supplied(TEXT, frozenset({3})))
    assert gate.feed("甲方是云杉（第9页），乙方是") == "甲方是云杉"

    assert gate.go_on(without=True) == "，乙方是"
    assert gate.fault is None
    assert gate.passed == "甲方是云杉，乙方是"


def test_pages_that_an_answer_names_are_known_afterwards() -> None:
    """Only an answer that names none gets a source line."""
    gate = Gate(Supplied(TEXT, frozenset({3, 4})))
    gate.feed("见第3、4页。")
    gate.close()

    assert gate.pages == {3, 4}


@pytest.mark.parametrize(
    ("run", "value"),
    [
        ("三百二十", 320),
        ("一万二千", 12_000),
        ("二〇二四", 2024),
        ("十五", 15),
        ("一亿三千万", 130_000_000),
        ("五", None),
    ],
)
def test_chinese_numerals_have_their_value(run: str, value: int | None) -> None:
    """Contracts write amounts in them, and models answer in digits."""
    assert numeral(run) == value
