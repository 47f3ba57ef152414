"""Tables as people make them: cells over several rows, titles above, headers of two rows, pages between rows."""

import io
from collections.abc import Sequence
from pathlib import Path

import openpyxl
import pptx as python_pptx
import pytest

from hanlin.documents.limits import Limits
from hanlin.documents.parsers import delimited, docx, flow, html, pdf, pptx, xlsx
from hanlin.documents.parsers.work import Work
from tests.big_documents import pdf_of, shown
from tests.documents_corpus import docx as raw_docx

STAFF = "| 部门 | 姓名 | 人数 |\n| --- | --- | --- |\n| 销售 | 张三 | 7 |\n| 销售 | 李四 |  |\n| 研发 | 王五 | 9 |"
"""Of a table in which the department and the number go over two rows: a label stands in both, a number once."""

PRICES = "| 编号 | 价格 含税 | 价格 不含税 | 部门 |\n| --- | --- | --- | --- |\n| A1 | 1.5 | 1.2 | 销售 |"


def page_of(path: Path, data: bytes) -> str:
    """Return the only page of a file, read as what its name says."""
    path.write_bytes(data)
    parsers = {
        ".html": html.pages,
        ".docx": docx.pages,
        ".xlsx": xlsx.pages,
        ".pptx": pptx.pages,
        ".csv": delimited.pages,
    }
    (page,) = parsers[path.suffix](Work(path))
    return page.text


def word(*rows: Sequence[tuple[str, str]]) -> bytes:
    """Return a Word document of one table; cells are texts and what is said of them."""
    cells = "".join(
        "<w:tr>"
        + "".join(f"<w:tc><w:tcPr>{said}</w:tcPr><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>" for text, said in row)
        + "</w:tr>"
        for row in rows
    )
    return raw_docx(f"<w:tbl>{cells}</w:tbl>")


FIRST, BELOW = '<w:vMerge w:val="restart"/>', "<w:vMerge/>"


def workbook(rows: Sequence[Sequence[str | float | None]], *merged: str) -> bytes:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in rows:
        book.active.append(row)
    for cells in merged:
        book.active.merge_cells(cells)
    made = io.BytesIO()
    book.save(made)
    return made.getvalue()


def slide() -> bytes:
    show = python_pptx.Presentation()
    page = show.slides.add_slide(show.slide_layouts[6])
    table = page.shapes.add_table(4, 3, 0, 0, 9_000_000, 900_000).table
    rows = [("部门", "姓名", "人数"), ("销售", "张三", "7"), ("", "李四", ""), ("研发", "王五", "9")]
    for at, row in enumerate(rows):
        for column, text in enumerate(row):
            table.cell(at, column).text = text
    for column in (0, 2):
        table.cell(1, column).merge(table.cell(2, column))
    made = io.BytesIO()
    show.save(made)
    return made.getvalue()


MERGED = {
    "a.html": (
        "<html><table><tr><th>部门</th><th>姓名</th><th>人数</th></tr>"
        "<tr><td rowspan=2>销售</td><td>张三</td><td rowspan='2'>7</td></tr><tr><td>李四</td></tr>"
        "<tr><td>研发</td><td>王五</td><td>9</td></tr></table>"
    ).encode(),
    "a.docx": word(
        [("部门", ""), ("姓名", ""), ("人数", "")],
        [("销售", FIRST), ("张三", ""), ("7", FIRST)],
        [("", BELOW), ("李四", ""), ("", BELOW)],
        [("研发", ""), ("王五", ""), ("9", "")],
    ),
    "a.pptx": slide(),
}


@pytest.mark.parametrize("name", MERGED)
def test_a_label_over_several_rows_stands_in_each_and_a_number_once(tmp_path: Path, name: str) -> None:
    """Every row can be read, and copied, by itself; the columns stay where they are, and sums are right."""
    assert page_of(tmp_path / name, MERGED[name]) == STAFF


def test_a_label_over_several_rows_of_a_sheet_stands_in_each(tmp_path: Path) -> None:
    """Which cells are one is told behind all of them."""
    rows: list[tuple[str | float | None, ...]]
    rows = [("部门", "姓名", "人数"), ("销售", "张三", 7), (None, "李四", None), ("研发", "王五", 9)]

    assert page_of(tmp_path / "a.xlsx", workbook(rows, "A2:A3", "C2:C3")) == f"# Sheet\n\n{STAFF}"


def test_rows_that_hang_down_come_to_an_end(tmp_path: Path) -> None:
    """A row without cells of its own counts, and is none; one with too few does not move what hangs behind it."""
    text = page_of(
        tmp_path / "a.html",
        (
            "<html><table><tr><th>a<th>b<th>c<tr><td rowspan=3>甲<td>1<td rowspan=99999>乙<tr><tr><td>2"
            "<tr><td>丙<td colspan=1 rowspan=x>3</table>"
        ).encode(),
    )

    assert text == "| a | b | c |\n| --- | --- | --- |\n| 甲 | 1 | 乙 |\n| 甲 | 2 | 乙 |\n| 丙 | 3 | 乙 |"


TITLED: dict[str, bytes] = {
    "a.csv": "订单表,,,\n编号,价格 含税,价格 不含税,部门\nA1,1.5,1.2,销售\n".encode("gb18030"),
    "a.html": (
        "<html><table><tr><td colspan=4>订单表<tr><th rowspan=2>编号<th colspan=2>价格<th rowspan=2>部门"
        "<tr><th>含税<th>不含税<tr><td>A1<td>1.5<td>1.2<td>销售</table>"
    ).encode(),
    "a.docx": word(
        [("订单表", '<w:gridSpan w:val="4"/>')],
        [("编号", FIRST), ("价格", '<w:gridSpan w:val="2"/>'), ("部门", FIRST)],
        [("", BELOW), ("含税", ""), ("不含税", ""), ("", BELOW)],
        [("A1", ""), ("1.5", ""), ("1.2", ""), ("销售", "")],
    ),
    "a.xlsx": workbook(
        [
            ("订单表",),
            ("编号", "价格", None, "部门"),
            (None, "含税", "不含税", None),
            ("A1", 1.5, 1.2, "销售"),
        ],
        *("A1:D1", "A2:A3", "B2:C2", "D2:D3"),
    ),
}


@pytest.mark.parametrize("name", TITLED)
def test_titles_stand_above_a_table_and_a_header_of_two_rows_is_one(tmp_path: Path, name: str) -> None:
    """Otherwise the title would be the only column that has a name."""
    text = page_of(tmp_path / name, TITLED[name])

    assert text.removeprefix("# Sheet\n\n") == f"订单表\n\n{PRICES}"


def test_a_header_that_says_again_what_is_above_is_part_of_it_and_data_is_not() -> None:
    """The first row of data says other things."""
    assert flow.with_second({0: "编号", 1: "价格"}, {0: "A1", 1: "1.5"}) is None
    assert flow.with_second({0: "编号", 1: "价格"}, {0: "编号", 2: "x"}) == {0: "编号", 1: "价格", 2: "价格 x"}
    assert flow.with_second({}, {}) is None
    groups = {0: "基本信息", 1: "", 2: "联系方式", 3: ""}
    names = {0: "姓名", 1: "部门", 2: "电话", 3: "邮箱"}
    assert flow.with_second(groups, names) == {
        0: "基本信息 姓名",
        1: "基本信息 部门",
        2: "联系方式 电话",
        3: "联系方式 邮箱",
    }
    assert flow.with_second(groups, names | {2: "13800000001"}) is None
    assert flow.with_second(groups, names | {1: ""}) is None
    assert flow.with_second(groups | {1: "工号"}, names) is None
    assert flow.table([["甲", ""], ["1", "2"]]) == "| 甲 |  |\n| --- | --- |\n| 1 | 2 |"


def test_titles_of_a_long_sheet_stand_once_and_its_header_on_every_page(tmp_path: Path) -> None:
    """Titles, a remark of the unit, then five hundred rows."""
    path = tmp_path / "a.xlsx"
    above = [("订单表",), (None, None, "单位：元"), ("编号", "品名", "单价")]
    rows = [*above, *((f"A{number}", "螺丝" * 9, number) for number in range(500))]
    path.write_bytes(workbook(rows, "A1:C1"))

    pages = [page.text for page in xlsx.pages(Work(path))]

    assert len(pages) > 3
    assert pages[0].startswith("# Sheet\n\n订单表\n\n单位：元\n\n| 编号 | 品名 | 单价 |\n")
    assert all(page.startswith("# Sheet\n\n| 编号 | 品名 | 单价 |\n") for page in pages[1:])
    assert sum(page.count("| A") for page in pages) == 500


def test_hidden_sheets_are_left_out(tmp_path: Path) -> None:
    """They hold lists that drop-down menus are filled from, which nobody sees."""
    path = tmp_path / "a.xlsx"
    book = openpyxl.Workbook()
    for name, state in (("甲", "veryHidden"), ("乙", "hidden"), ("丙", "visible")):
        sheet = book.create_sheet(name)
        sheet.append([name])
        sheet.sheet_state = state
    book.remove(book["Sheet"])
    book.active = 2
    book.save(path)

    assert [page.label for page in xlsx.pages(Work(path))] == ["丙"]


XS = (64, 164, 284, 364)


def ruled(rows: Sequence[Sequence[str]], *, top: int, above: str = "", below: str = "") -> str:
    """Return the operators of a page with a ruled table, from a height down, and lines around it."""
    ys = [top - 20 * at for at in range(len(rows) + 1)]
    lines = "".join(f"{XS[0]} {y} m {XS[-1]} {y} l S\n" for y in ys)
    lines += "".join(f"{x} {ys[0]} m {x} {ys[-1]} l S\n" for x in XS)
    cells = "".join(
        shown(text, XS[column] + 4, ys[at + 1] + 6, 10)
        for at, row in enumerate(rows)
        for column, text in enumerate(row)
        if text
    )
    around = (shown(above, 64, top + 20, 10) if above else "") + (shown(below, 64, ys[-1] - 30, 10) if below else "")
    return lines + cells + around


def prose(top: int) -> str:
    return "".join(shown(f"第{line}行" + "正文" * 18, 64, top - 20 * line, 10) for line in range(5))


def pdf_pages(path: Path, *contents: str) -> list[str]:
    pdf_of(path, lambda page: contents[page - 1], len(contents))
    return [page.text for page in pdf.pages(Work(path, limits=Limits(reads_pictures=False)))]


HEAD = ["编号", "品名", "数量"]


def numbered(first: int, count: int) -> list[list[str]]:
    return [[f"A{at}", "螺丝", str(at)] for at in range(first, first + count)]


def test_a_table_that_goes_over_pages_has_its_header_on_each(tmp_path: Path) -> None:
    """Word repeats a header only where it was told to; the rows of the other pages have none to be read by."""
    pages = pdf_pages(
        tmp_path / "a.pdf",
        ruled([HEAD, *numbered(1, 3)], top=300, above="订单一览表如下所示，共九行。", below="第 1 页"),
        ruled(numbered(4, 3), top=760, above="公司内部资料", below="第 2 页"),
        ruled([["A7-备用", "", "数量 7"], ["A8-备用", "", "数量 8"]], top=760),
    )

    head = "| 编号 | 品名 | 数量 |\n| --- | --- | --- |\n"
    assert f"{head}| A1 | 螺丝 | 1 |" in pages[0]
    assert f"{head}| A4 | 螺丝 | 4 |" in pages[1]
    assert f"{head}| A7-备用 |  | 数量 7 |\n| A8-备用 |  | 数量 8 |" in pages[2]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ruled([HEAD, *numbered(1, 3)], top=760), ruled([HEAD, *numbered(4, 3)], top=760)),
        (ruled([HEAD, *numbered(1, 3)], top=760), ruled([["姓名", "电话", "地址"], *numbered(4, 3)], top=760)),
        (
            ruled([HEAD, *numbered(1, 3)], top=760) + prose(500),
            ruled(numbered(4, 3), top=760),
        ),
        (
            ruled([HEAD, *numbered(1, 3)], top=760),
            ruled(numbered(4, 3), top=400) + prose(700),
        ),
    ],
    ids=["header repeated", "another header", "text below", "text above"],
)
def test_a_table_of_its_own_is_left_as_it_is(tmp_path: Path, first: str, second: str) -> None:
    """A header in the wrong place would name columns wrongly."""
    pages = pdf_pages(tmp_path / "a.pdf", first, second)

    (alone,) = pdf_pages(tmp_path / "b.pdf", second)
    assert pages[1] == alone
