"""Documents in parts, tables in pages, sources of answers: the pure pieces that recipes about documents are made of."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanlin.documents.values import Page
from hanlin.metering.estimate import text_tokens
from hanlin.recipes.long_documents.asking import derives, kind_of, looked_for
from hanlin.recipes.long_documents.budget import room
from hanlin.recipes.long_documents.claims import says_nothing
from hanlin.recipes.long_documents.finding import without_shared
from hanlin.recipes.long_documents.parts import cut, evenly, parts_of, spread
from hanlin.recipes.long_documents.prompts import Piece, mark
from hanlin.recipes.long_documents.report import ranges
from hanlin.recipes.long_documents.sources import best
from hanlin.recipes.tables import tables, written
from hanlin.recipes.texts import amount, is_chinese, number, numbers
from tests.documents import document, filler


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="水火。\n a.", max_size=400), st.integers(8, 60))
def test_a_text_in_pieces_is_the_text(text: str, budget: int) -> None:
    """What falls between two pieces would be read by nobody."""
    pieces = list(cut(text, budget))

    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(text_tokens(piece) <= budget + 1 for piece in pieces)


async def test_parts_hold_every_page_once_and_fit_their_budget() -> None:
    """Pages stay whole where they fit; a page beyond the budget is cut."""
    file = document(*filler(40), "长。" * 3000, "尾页")

    parts = await parts_of([file], 1500)

    assert "".join(piece.text for part in parts for piece in part.pieces).replace("\n", "") == "".join(
        page.text for page in file.all_pages
    ).replace("\n", "")
    assert all(text_tokens(part.text) <= 1700 for part in parts)
    assert [part.number for part in parts] == list(range(len(parts)))


@given(st.integers(1, 300), st.integers(2, 60))
def test_an_even_choice_has_both_ends_and_no_part_twice(count: int, most: int) -> None:
    """Beginning and end of a document say what it is."""
    chosen = evenly(count, most)

    assert len(chosen) == len(set(chosen)) == min(count, most)
    assert (chosen[0], chosen[-1]) == (0, count - 1)


@given(st.integers(0, 80))
def test_a_spread_order_has_every_number_once(count: int) -> None:
    """However early it is stopped, it has been everywhere."""
    order = spread(list(range(count)))

    assert sorted(order) == list(range(count))
    assert order[:3] in ([], [0], [0, 1], [0, count - 1, (count - 1) // 2])


def test_tables_that_go_on_over_pages_are_one() -> None:
    """A long table of a PDF has its head on every page."""
    first, second = [("1", "a|b"), ("2", "")], [("3", "c\nd")]
    pages = [Page(1, f"标题\n\n{written(['号', '名'], first)}"), Page(2, written(["号", "名"], second))]

    [table], share = tables(pages)

    assert table.headers == ("号", "名")
    assert [(row.cells, row.page) for row in table.rows] == [(("1", "a|b"), 1), (("2", ""), 1), (("3", "c\nd"), 2)]
    assert 0.8 < share < 1.0


@pytest.mark.parametrize("text", ["a | b", "没有表格", "| 只有 | 一行 |", "| a |\n| b |", ""])
def test_what_only_looks_like_a_table_is_none(text: str) -> None:
    """A line with a bar in it is a line."""
    assert tables([Page(1, text)])[0] == []


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("¥1,234.50", 1234.5),
        ("-5", -5.0),
        ("12%", 12.0),
        ("37 件", 37.0),
        ("2024-01-03", None),
        ("A-001", None),
        ("", None),
    ],
)
def test_a_cell_is_worth_what_people_read_in_it(text: str, value: float | None) -> None:
    """Currency, separators and units do not make it another number; a date is none."""
    assert amount(text) == value


def test_numbers_have_one_spelling() -> None:
    """Otherwise an answer would be taken for wrong because of a comma."""
    assert numbers("１,２３４.５０ and 0012") == {"1234.5", "12"}
    assert number("007") == "7"


@pytest.mark.parametrize(
    ("text", "chinese"),
    [("文件讲了什么", True), ("What is in 合同?", True), ("What is it?", False), ("日本語ですか", False), ("", False)],
)
def test_the_language_of_a_question(text: str, chinese: bool) -> None:
    """Answers come in it; a Japanese one is not Chinese."""
    assert is_chinese(text) == chinese


@pytest.mark.parametrize(
    ("question", "documents", "kind"),
    [
        ("启动口令是什么？", 1, "lookup"),
        ("总结这份文件", 1, "summary"),
        ("对比两份合同的违约条款", 2, "summary"),
        ("甲和乙的区别是什么", 1, "lookup"),
        ("列出所有的安全事故", 1, "list"),
        ("文中一共提到多少次事故", 1, "count"),
    ],
)
def test_what_must_be_read_follows_from_the_question(question: str, documents: int, kind: str) -> None:
    """A comparison is of whole documents only where there are several."""
    assert kind_of(question, documents) == kind


def test_a_question_that_points_back_takes_the_words_before_it() -> None:
    """And one with words of its own does not."""
    assert "云杉" in looked_for(["云杉项目的预算是多少？", "它由谁负责？"])
    assert looked_for(["云杉项目的预算是多少？", "铁杉项目的负责人叫什么名字？"]) == "铁杉项目的负责人叫什么名字？"


@pytest.mark.parametrize(
    ("question", "does"),
    [("两者相差多少？", True), ("合计是多少？", True), ("口令是什么？", False), ("Who signed?", False)],
)
def test_some_questions_ask_for_numbers_that_stand_nowhere(question: str, does: bool) -> None:
    """Their answers are not held against the text."""
    assert derives(question) == does


@pytest.mark.parametrize("window", [1024, 4096, 16_384, 131_072])
def test_a_window_is_shared_out_and_never_exceeded(window: int) -> None:
    """Documents, dialogue and answer together."""
    shared = room(window, 8192, window // 4)

    assert 0 < shared.documents + shared.answer + window // 4 <= window
    assert shared.lookup <= min(shared.documents, 12_000)
    assert shared.part < window


def test_text_that_two_passages_share_is_said_once() -> None:
    """Passages repeat the end of the one before them."""
    assert without_shared("甲。乙乙乙乙乙乙乙乙乙乙乙乙乙乙。", "乙乙乙乙乙乙乙乙乙乙乙乙乙乙。丙。") == "丙。"
    assert without_shared("甲。", "乙。") == "乙。"


def test_pages_are_told_as_ranges() -> None:
    """`1-200` is shorter than two hundred numbers."""
    assert ranges([1, 2, 3, 7, 9, 10]) == ("1-3", "7", "9-10")


def test_the_source_is_the_page_that_has_the_answers_words() -> None:
    """Numbers count for more than words that every page has."""
    file = document("项目在杭州。", "项目的口令是7431。", "项目在苏州。")
    pieces = [Piece(file, page.number, page.number, page.text) for page in file.all_pages]

    assert [piece.first_page for piece in best("口令是7431", pieces)] == [2]
    assert best("无关", pieces) == []


@pytest.mark.parametrize("answer", ["文件中没有提到。", "The documents do not mention it.", "文中未说明原因。"])
def test_an_answer_that_says_nothing_has_no_source(answer: str) -> None:
    """A page beside `not in the document` would be a contradiction."""
    assert says_nothing(answer)


def test_a_name_cannot_close_its_mark() -> None:
    """Names of files are chosen by strangers."""
    file = document("x", "y", name="a] [evil p.9]\n.pdf")

    assert mark(Piece(file, 2, 2, "y")) == "[a) (evil p.9) .pdf p.2]"
