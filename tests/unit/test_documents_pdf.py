"""PDF pages become text as people read them: paragraphs, headings, tables, columns, and their numbers."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from hanlin.documents.limits import Limits
from hanlin.documents.parsers import pdf
from hanlin.documents.parsers.work import Work
from hanlin.documents.unreadable import DocumentUnreadable
from tests.big_documents import Language, pages_of, pdf_of, shown, write_pdf
from tests.documents_corpus import PAGE, pdf_of_picture, pdf_raw

MARKS = re.compile(r"^#+ ", re.MULTILINE)
ROWS = [["站名", "负责人", "数量|个"], ["杭州站", "王建国", "12"], ["宁波站", "Li Lei", "7.5%"]]
TABLE = "| 站名 | 负责人 | 数量\\|个 |\n| --- | --- | --- |\n| 杭州站 | 王建国 | 12 |\n| 宁波站 | Li Lei | 7.5% |"
XS, YS = (64, 164, 284, 364), (730, 710, 690, 670)


def texts(tmp_path: Path, *contents: str) -> list[str]:
    """Return the texts of pages with these contents."""
    path = tmp_path / "a.pdf"
    pdf_of(path, lambda page: contents[page - 1], len(contents))
    return [page.text for page in pdf.pages(Work(path, limits=Limits(reads_pictures=False)))]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_long_pdf_is_read_to_the_letter_page_by_page(tmp_path: Path, language: Language) -> None:
    """Lines that were broken for the page are whole again, paragraphs stay apart, headings are headings."""
    path = tmp_path / "a.pdf"
    needle = {"zh": "暗语是青花瓷。", "en": "The password is porcelain."}[language]
    write_pdf(path, pages=40, language=language, needles={17: needle})

    pages = list(pdf.pages(Work(path)))

    assert [page.number for page in pages] == list(range(1, 41))
    assert [MARKS.sub("", page.text) for page in pages] == pages_of(pages=40, language=language, needles={17: needle})
    assert pages[12].text.startswith("# ")
    assert pages[13].text.startswith("## ")


def cells(rows: Sequence[Sequence[str]]) -> str:
    """Return the operators that write texts into the grid of `XS` and `YS`."""
    return "".join(
        shown(text, XS[column] + 4, YS[row + 1] + 6, 10)
        for row, texts_of_row in enumerate(rows)
        for column, text in enumerate(texts_of_row)
        if text
    )


LINES = "".join([f"{XS[0]} {y} m {XS[-1]} {y} l S\n" for y in YS] + [f"{x} {YS[0]} m {x} {YS[-1]} l S\n" for x in XS])
BOXES = "".join(f"{x} {low} {right - x} {high - low} re S\n" for x, right in pairwise(XS) for high, low in pairwise(YS))
THIN = "".join(
    [f"{XS[0]} {y} {XS[-1] - XS[0]} 0.5 re f\n" for y in YS] + [f"{x} {YS[-1]} 0.5 {YS[0] - YS[-1]} re f\n" for x in XS]
)
ONE_PATH = LINES.replace(" S\n", "\n") + "S\n"


def _moved(point: re.Match[str]) -> str:
    x, y = map(float, point[0].split())
    return f"{(x - 10) / 2} {(y - 20) / 2} "


SCALED = f"q 2 0 0 2 10 20 cm {re.sub('[0-9.]+ [0-9.]+ (?=[ml])', _moved, LINES)} Q\n"


@pytest.mark.parametrize(
    "rules", [LINES, BOXES, THIN, ONE_PATH, SCALED], ids=["lines", "boxes", "thin", "one", "scaled"]
)
def test_a_ruled_table_is_a_table_however_it_is_drawn(tmp_path: Path, rules: str) -> None:
    """Every program that makes PDFs draws the same table in its own way."""
    content = shown("数据", 64, 780, 20) + shown("下表列出读数。", 64, 750, 11) + rules + cells(ROWS)
    content += shown("表后说明。", 64, 640, 11)

    assert texts(tmp_path, content) == [f"# 数据\n\n下表列出读数。\n\n{TABLE}\n\n表后说明。"]


def test_cells_that_are_one_have_their_text_once(tmp_path: Path) -> None:
    """A heading over two columns belongs to both, and must not be cut in two."""
    rules = "".join(f"{XS[0]} {y} m {XS[-1]} {y} l S\n" for y in YS)
    rules += "".join(f"{x} {YS[0]} m {x} {YS[-1]} l S\n" for x in (XS[0], XS[2], XS[3]))
    rules += f"{XS[1]} {YS[1]} m {XS[1]} {YS[-1]} l S\n"
    content = rules + cells([["站名与负责人", "", "数量"], *ROWS[1:]]) + shown("正文" * 20, 64, 600, 11)

    (text,) = texts(tmp_path, content)

    assert text.startswith("| 站名与负责人 |  | 数量 |\n| --- | --- | --- |\n| 杭州站 | 王建国 | 12 |")


def test_a_cell_of_several_lines_is_one_text(tmp_path: Path) -> None:
    """Words that were broken to fit a cell are whole again."""
    content = LINES + cells([["a", "b", "c"], ["", "x", "y"], ["1", "2", "3"]])
    content += shown("水泵检", 68, 701, 9) + shown("修记录", 68, 692, 9) + shown("正文" * 20, 64, 600, 11)

    (text,) = texts(tmp_path, content)

    assert "| 水泵检修记录 | x | y |" in text


@pytest.mark.parametrize(
    "drawing",
    [
        "64 600 300 100 re S\n",
        "".join(f"{x} 600 m {x} 700 l S 64 {540 + x} m 364 {540 + x} l S\n" for x in range(64, 364, 20)),
        "".join(f"{64 + n % 50} {100 + n % 71} 9 9 re S\n" for n in range(1200)),
    ],
    ids=["frame", "plot", "map"],
)
def test_a_drawing_is_no_table(tmp_path: Path, drawing: str) -> None:
    """A frame around a text and the grid of a plot have rules as well."""
    text = "图中的文字说明，共有三十六个字，写在一个框子的里面，它不是任何表格。"

    assert texts(tmp_path, drawing + shown(text, 70, 650, 8)) == [text]


LEFT = [f"左栏的第{number}行文字排得满满的一直到边" for number in "一二三四五六"]
RIGHT = [f"右栏的第{number}行文字排得满满的一直到边" for number in "一二三四五六"]


def test_columns_are_read_one_after_the_other(tmp_path: Path) -> None:
    """Most programs write them in this order."""
    left = "".join(shown(text, 64, 780 - 16 * at, 11) for at, text in enumerate(LEFT))
    right = "".join(shown(text, 310, 780 - 16 * at, 11) for at, text in enumerate(RIGHT))

    assert texts(tmp_path, left + right) == ["".join([*LEFT, *RIGHT])]


def test_columns_that_were_written_line_by_line_are_read_one_after_the_other(tmp_path: Path) -> None:
    """Some write straight across the page; taken so, every sentence would end in another one."""
    lines = "".join(
        shown(left, 64, 740 - 16 * at, 11) + shown(right, 310, 740 - 16 * at, 11)
        for at, (left, right) in enumerate(zip(LEFT, RIGHT, strict=True))
    )
    title = shown("一行跨越两栏的题目也要留在最前面不能分开", 150, 780, 11)

    (text,) = texts(tmp_path, title + lines)

    assert text.endswith("".join([*LEFT, *RIGHT]))


def test_the_rows_of_a_table_without_rules_stay_whole(tmp_path: Path) -> None:
    """It looks like columns, and is none: its cells are short."""
    rows = [("杭州站", "12 台"), ("宁波站", "7 台"), ("温州站", "31 台"), ("嘉兴站", "5 台"), ("湖州站", "9 台")]
    content = "".join(
        shown(name, 64, 740 - 24 * at, 11) + shown(count, 310, 740 - 24 * at, 11)
        for at, (name, count) in enumerate(rows)
    )

    (text,) = texts(tmp_path, content)

    assert re.findall(r"(\S+站)\s+(\d+ 台)", text) == rows


def test_items_of_a_list_stand_by_themselves(tmp_path: Path) -> None:
    """And a number at the beginning of a line is not yet an item."""
    lines = [
        "检修分为以下几个步骤，每一步都要有两个人在场并且签字确认，其用量约为",
        "36.1%，不得超出。",
        "1. 关闭电源。",
        "2. 打开盖板。",
        "• 记录读数。",
    ]
    content = "".join(shown(text, 64, 740 - 16 * at, 11) for at, text in enumerate(lines))

    (text,) = texts(tmp_path, content)

    assert text.split("\n\n") == [lines[0] + lines[1], lines[2], lines[3], "- 记录读数。"]


def test_pages_have_the_names_that_the_document_gives_them(tmp_path: Path) -> None:
    """A preface is counted in Roman numbers, and quoted so."""
    path = tmp_path / "a.pdf"
    path.write_bytes(
        pdf_raw(
            {
                1: "<< /Type /Catalog /Pages 2 0 R /PageLabels << /Nums [0 << /S /r >> 2 << /S /D /St 1 >>] >> >>",
                2: "<< /Type /Pages /Count 3 /Kids [3 0 R 4 0 R 5 0 R] >>",
                **dict.fromkeys((3, 4, 5), PAGE.format(more="")),
            }
        )
    )

    assert [page.label for page in pdf.pages(Work(path))] == ["i", "ii", "1"]


def test_a_scan_that_nobody_can_read_says_what_to_install(tmp_path: Path) -> None:
    """An empty answer would be taken for an empty document."""
    path = tmp_path / "a.pdf"
    pdf_of_picture(path)

    with pytest.raises(DocumentUnreadable) as refused:
        list(pdf.pages(Work(path, limits=Limits(reads_pictures=False))))

    assert refused.value.reason == "needs_ocr"
    assert 'pip install "hanlin[ocr]"' in refused.value.detail
