"""Office files and books become the Markdown that their readers see. Other libraries write them than read them."""

import datetime
import re
from collections.abc import Callable
from pathlib import Path

import docx as python_docx
import openpyxl
import pptx as python_pptx
import pytest
from docx.enum.text import WD_BREAK
from openpyxl.worksheet.worksheet import Worksheet

from hanlin.documents.parsers import docx, docx_parts, epub, html, pptx, xlsx, xlsx_formats
from hanlin.documents.parsers.work import Work
from hanlin.documents.parsers.xlsx_formats import Form
from tests.big_documents import Language, pages_of, write_docx
from tests.documents_corpus import RELATIONS, W, paragraph, zipped
from tests.documents_corpus import docx as raw_docx
from tests.documents_corpus import epub as raw_epub
from tests.documents_corpus import xlsx as raw_xlsx

MARKS = re.compile(r"^#+ ", re.MULTILINE)


@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_long_word_document_is_read_to_the_letter_page_by_page(tmp_path: Path, language: Language) -> None:
    """Page numbers are what answers are quoted with."""
    path = tmp_path / "a.docx"
    write_docx(path, pages=30, language=language, needles={17: "needle 针"})

    pages = list(docx.pages(Work(path)))

    assert [page.number for page in pages] == list(range(1, 31))
    assert [MARKS.sub("", page.text) for page in pages] == pages_of(
        pages=30, language=language, needles={17: "needle 针"}
    )
    assert pages[12].text.startswith("# ")
    assert pages[13].text.startswith("## ")


def test_headings_lists_and_tables_of_a_word_document_are_kept(tmp_path: Path) -> None:
    """They are how a person finds something in it, and how a model does."""
    path = tmp_path / "a.docx"
    document = python_docx.Document()
    document.core_properties.title = "运行手册"
    document.add_heading("运行手册", 0)
    document.add_heading("第一章 总则", 1)
    document.add_paragraph("本手册适用于 Pump A。").add_run(" And more.").bold = True
    document.add_heading("范围", 2)
    for text, style in (("甲", "List Bullet"), ("乙", "List Bullet 2"), ("one", "List Number"), ("two", "List Number")):
        document.add_paragraph(text, style=style)
    table = document.add_table(3, 3)
    for number, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"c{number}"
    table.cell(0, 0).merge(table.cell(0, 1)).text = "wide|r"
    table.cell(1, 2).merge(table.cell(2, 2)).text = "high"
    document.add_paragraph("end").add_run().add_break(WD_BREAK.PAGE)
    document.add_paragraph("第二页")
    document.save(str(path))
    work = Work(path)

    first, second = docx.pages(work)

    assert work.title == "运行手册"
    assert first.text == (
        "# 运行手册\n\n# 第一章 总则\n\n本手册适用于 Pump A。 And more.\n\n## 范围\n\n- 甲\n- 乙\n1. one\n2. two\n\n"
        "| wide\\|r |  | c2 |\n| --- | --- | --- |\n| c3 | c4 | high |\n| c6 | c7 | high |\n\nend"
    )
    assert (second.number, second.text) == (2, "第二页")


def docx_pages(tmp_path: Path, body: str, **parts: str) -> list[str]:
    """Return the pages of a document with this body and these parts beside it."""
    path = tmp_path / "a.docx"
    related = "".join(
        f'<Relationship Id="{name}" Target="{name}.xml" '
        f'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/{name}"/>'
        for name in parts
    )
    more: dict[str, str | bytes] = {
        f"word/{name}.xml": f'<w:{name} xmlns:w="{W}">{text}</w:{name}>' for name, text in parts.items()
    }
    more["word/_rels/document.xml.rels"] = (
        f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{related}</Relationships>'
    )
    path.write_bytes(raw_docx(body, more=more))
    return [page.text for page in docx.pages(Work(path))]


def test_headings_have_the_numbers_that_word_gives_them(tmp_path: Path) -> None:
    """`What does 3.2 say` is asked of documents whose text holds no `3.2` anywhere."""
    levels = "".join(
        f'<w:lvl w:ilvl="{depth}"><w:start w:val="1"/><w:numFmt w:val="{form}"/><w:lvlText w:val="{text}"/></w:lvl>'
        for depth, form, text in ((0, "chineseCounting", "第%1章"), (1, "decimal", "%1.%2"), (2, "bullet", "·"))
    )
    numbering = (
        f'<w:abstractNum w:abstractNumId="7">{levels}</w:abstractNum>'
        '<w:num w:numId="1"><w:abstractNumId w:val="7"/></w:num>'
    )
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="h{level}"><w:name w:val="heading {level}"/><w:pPr><w:numPr>'
        f'<w:ilvl w:val="{level - 1}"/><w:numId w:val="1"/></w:numPr></w:pPr></w:style>'
        for level in (1, 2)
    )
    headings = [("h1", "总则"), ("h2", "范围"), ("h2", "术语"), ("h1", "运行"), ("h2", "启动")]
    body = "".join(
        f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>' for style, text in headings
    )
    body += (
        '<w:p><w:pPr><w:numPr><w:ilvl w:val="2"/><w:numId w:val="1"/></w:numPr></w:pPr><w:r><w:t>点</w:t></w:r></w:p>'
    )

    (page,) = docx_pages(tmp_path, body, numbering=numbering, styles=styles)

    assert page.split("\n\n") == [
        "# 第一章 总则", "## 1.1 范围", "## 1.2 术语", "# 第二章 运行", "## 2.1 启动", "    - 点",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "form", "text"),
    [
        (27, "lowerLetter", "aa"), (3, "upperLetter", "C"), (14, "lowerRoman", "xiv"), (1990, "upperRoman", "MCMXC"),
        (5, "decimalZero", "05"), (3, "decimalEnclosedCircle", "③"), (1, "none", ""), (9, "unheard of", "9"),
        (10, "chineseCounting", "十"), (12, "chineseCounting", "十二"), (20, "chineseCounting", "二十"),
        (105, "chineseCounting", "一百零五"), (110, "chineseCounting", "一百一十"), (0, "lowerRoman", "0"),
    ],
)  # fmt: skip
def test_lists_count_as_they_are_told_to(number: int, form: str, text: str) -> None:
    """Somebody will ask for item （十二）."""
    assert docx_parts.numbered(number, form) == text


def test_what_is_not_seen_in_a_word_document_is_not_told(tmp_path: Path) -> None:
    """Text that was deleted, and the second telling of a drawing, would be quoted as if they stood there."""
    body = (
        "<w:p><w:r><w:t>kept</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<w:r><w:instrText>PAGE</w:instrText></w:r></w:p>"
        '<w:p><w:pPr><w:tabs><w:tab w:val="left" w:pos="9"/></w:tabs></w:pPr>'
        '<mc:AlternateContent xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006">'
        f"<mc:Choice><w:r><w:txbxContent>{paragraph('box')}</w:txbxContent></w:r></mc:Choice>"
        f"<mc:Fallback><w:r><w:txbxContent>{paragraph('box')}</w:txbxContent></w:r></mc:Fallback></mc:AlternateContent>"
        "<w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r></w:p>"
    )

    assert docx_pages(tmp_path, body) == ["kept\n\nbox\n\na\tb\nc"]


def test_what_is_moved_is_told_once_and_ticks_are_seen(tmp_path: Path) -> None:
    """Tracked changes stand in a document twice; a form without its ticks says nothing."""
    moved = (
        "<w:p><w:moveFrom><w:r><w:t>旧</w:t></w:r></w:moveFrom><w:del><w:r><w:delText>删</w:delText><w:tab/></w:r></w:del>"
        "<w:moveTo><w:r><w:t>新</w:t></w:r></w:moveTo><w:ins><w:r><w:t>增</w:t></w:r></w:ins></w:p>"
    )
    ticks = (
        '<w:p><w:r><w:sym w:font="Wingdings 2" w:char="F052"/><w:t>是 </w:t><w:sym w:font="Wingdings 2" w:char="00A3"/>'
        '<w:t>否</w:t><w:sym w:font="Symbol" w:char="F0"/></w:r></w:p>'
    )

    assert docx_pages(tmp_path, moved + ticks) == ["新增\n\n☑是 □否"]


def test_headings_are_found_by_their_chinese_names(tmp_path: Path) -> None:
    """Word writes the English names of its own styles, other programs those that people see."""
    body = "".join(
        f'<w:p><w:pPr><w:pStyle w:val="{style}"/></w:pPr><w:r><w:t>{style}</w:t></w:r></w:p>'
        for style in ("a", "b", "c")
    )
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="{style}"><w:name w:val="{name}"/></w:style>'
        for style, name in (("a", "标题"), ("b", "标题 2"), ("c", "标题样式"))
    )

    assert docx_pages(tmp_path, body, styles=styles) == ["# a\n\n## b\n\nc"]


def test_notes_stand_below_what_they_belong_to(tmp_path: Path) -> None:
    """Contracts hide in them what matters."""
    body = '<w:p><w:r><w:t>价款</w:t><w:footnoteReference w:id="2"/></w:r></w:p>' + paragraph("下文")
    notes = f'<w:footnote w:id="0" w:type="separator">{paragraph("-")}</w:footnote>'
    notes += f'<w:footnote w:id="2">{paragraph("含税。")}</w:footnote>'

    assert docx_pages(tmp_path, body, footnotes=notes) == ["价款[^2]\n\n[^2]: 含税。\n\n下文"]


BREAK = '<w:r><w:br w:type="page"/></w:r>'
RENDERED = "<w:r><w:lastRenderedPageBreak/></w:r>"


@pytest.mark.parametrize(
    ("body", "pages"),
    [
        (f"<w:p><w:r><w:t>a</w:t></w:r>{BREAK}</w:p>{paragraph('b')}", ["a", "b"]),
        (f"<w:p><w:r><w:t>a</w:t></w:r>{BREAK}</w:p><w:p>{RENDERED}<w:r><w:t>b</w:t></w:r></w:p>", ["a", "b"]),
        (f"<w:p><w:r><w:t>a</w:t></w:r>{RENDERED}<w:r><w:t>b</w:t></w:r></w:p>", ["a", "b"]),
        (f"{paragraph('a')}<w:p>{BREAK}{BREAK}</w:p>{paragraph('b')}", ["a", "", "b"]),
        (
            "<w:tbl>"
            + "".join(
                f"<w:tr><w:tc><w:p>{turn}<w:r><w:t>{text}</w:t></w:r></w:p></w:tc><w:tc>{paragraph('x')}</w:tc></w:tr>"
                for turn, text in (("", "h"), ("", "1"), (RENDERED, "2"))
            )
            + "</w:tbl>",
            ["| h | x |\n| --- | --- |\n| 1 | x |", "| h | x |\n| --- | --- |\n| 2 | x |"],
        ),
    ],
)
def test_pages_end_where_word_ended_them(tmp_path: Path, body: str, pages: list[str]) -> None:
    """Word marks the page that an explicit break begins as well: that is one page, not two."""
    assert docx_pages(tmp_path, body) == pages


def test_a_word_document_that_knows_no_pages_is_cut_into_readable_sections(tmp_path: Path) -> None:
    """Other programs than Word do not say where pages end."""
    pages = docx_pages(tmp_path, paragraph("x" * 500) * 40)

    assert len(pages) == 7
    assert sum(page.count("x") for page in pages) == 20_000


# Workbooks


def workbook(path: Path, fill: Callable[[Worksheet], None]) -> list[tuple[str, str]]:
    book = openpyxl.Workbook()
    fill(book.active)
    book.save(path)
    return [(page.label, page.text) for page in xlsx.pages(Work(path))]


def test_a_workbook_shows_what_its_readers_see(tmp_path: Path) -> None:
    """A date that is 45356 and a share that is 0.256 answer no question."""

    def fill(sheet: Worksheet) -> None:
        sheet.title = "销售 2024"
        sheet.append(["产品", "数量", "单价", "日期", "占比", "合计", "完成", "时间"])
        sheet.append(["水泵", 3, 1234.5, datetime.date(2024, 3, 5), 0.256, "=B2*C2", True, datetime.time(14, 30)])
        sheet.append(["阀|门", 1e6, 0.1, datetime.datetime(2024, 3, 5, 14, 30), 1, None, False, None])
        sheet["E2"].number_format, sheet["E3"].number_format = "0.0%", "0%"
        sheet["C5"] = "last"

    assert workbook(tmp_path / "a.xlsx", fill) == [
        (
            "销售 2024",
            "# 销售 2024\n\n"
            "| 产品 | 数量 | 单价 | 日期 | 占比 | 合计 | 完成 | 时间 |\n"
            "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
            "| 水泵 | 3 | 1234.5 | 2024-03-05 | 25.6% | =B2*C2 | TRUE | 14:30 |\n"
            "| 阀\\|门 | 1000000 | 0.1 | 2024-03-05 14:30 | 100% |  | FALSE |  |\n"
            "|  |  | last |  |  |  |  |  |",
        )
    ]


def test_every_page_of_a_long_sheet_has_its_name_and_its_header(tmp_path: Path) -> None:
    """Whoever finds row 4,000 must know what its columns are."""

    def fill(sheet: Worksheet) -> None:
        sheet.title = "Log"
        sheet.append(["number", "name"])
        for number in range(500):
            sheet.append([number, f"entry {number}"])

    pages = workbook(tmp_path / "a.xlsx", fill)

    assert len(pages) > 2
    assert all(text.startswith("# Log\n\n| number | name |\n| --- | --- |\n| ") for _, text in pages)
    assert sum(text.count("| entry ") for _, text in pages) == 500


def test_a_formula_shows_its_result_where_it_has_one(tmp_path: Path) -> None:
    """The result is what people see; a program that computes nothing leaves only the formula."""
    path = tmp_path / "a.xlsx"
    cells = "<c><f>A1+1</f><v>7</v></c><c><f t='shared' si='0'>A1*2</f></c><c><f t='shared' si='0'/></c>"
    path.write_bytes(raw_xlsx(f"<row>{cells}</row>"))

    (page,) = xlsx.pages(Work(path))

    assert page.text.splitlines()[2] == "| 7 | =A1*2 | =A1*2 |"


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        ("45356", Form(date=True), "2024-03-05"),
        ("45356.604166666", Form(date=True, time=True), "2024-03-05 14:30"),
        ("0.5", Form(time=True), "12:00"),
        ("1.5", Form(time=True), "36:00"),
        ("0", Form(date=True, since_1904=True), "1904-01-01"),
        ("-1", Form(date=True), "-1"),
        ("1e99", Form(date=True), "1e+99"),
        ("0.1234", Form(percent=2), "12.34%"),
        ("0.30000000000000004", Form(), "0.3"),
        ("1E3", Form(), "1000"),
        ("123", Form(digits=6), "000123"),
        ("12.5", Form(digits=6), "12.5"),
        ("-7", Form(digits=3), "-7"),
        ("nan", Form(), "nan"),
        ("text", Form(date=True), "text"),
    ],
)
def test_numbers_are_shown_in_their_form(value: str, form: Form, text: str) -> None:
    """As Excel does, as far as a reader would notice."""
    assert xlsx_formats.shown(value, form) == text


# Presentations


def test_codes_keep_their_zeros(tmp_path: Path) -> None:
    """A number of six digits is a postcode to whoever reads it."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert isinstance(sheet, Worksheet)
    for value, form in ((123, "000000"), (7, '00"号"'), (5, "0"), (5, "0.00")):
        sheet.append([value])
        sheet.cell(sheet.max_row, 1).number_format = form
    book.save(tmp_path / "a.xlsx")

    (page,) = xlsx.pages(Work(tmp_path / "a.xlsx"))

    assert [line.strip("| ") for line in page.text.splitlines()[2:]] == ["000123", "---", "07", "5", "5"]


def test_a_slide_is_its_title_its_points_its_tables_and_its_notes(tmp_path: Path) -> None:
    """What the speaker says is often all the text there is."""
    path = tmp_path / "a.pptx"
    show = python_pptx.Presentation()
    slide = show.slides.add_slide(show.slide_layouts[1])
    slide.shapes.title.text = "年度总结"
    frame = slide.placeholders[1].text_frame
    frame.text = "第一点"
    below = frame.add_paragraph()
    below.text, below.level = "细节", 1
    table = slide.shapes.add_table(2, 2, 0, 0, 999999, 999999).table
    for number, text in enumerate(["名称", "值", "甲", "1"]):
        table.cell(number // 2, number % 2).text = text
    slide.notes_slide.notes_text_frame.text = "请讲慢一点"
    show.slides.add_slide(show.slide_layouts[5]).shapes.title.text = "Second"
    show.core_properties.title = ""
    show.save(str(path))
    work = Work(path)

    first, second = pptx.pages(work)

    assert work.title == "年度总结"
    assert first.text == (
        "# 年度总结\n\n- 第一点\n  - 细节\n\n| 名称 | 值 |\n| --- | --- |\n| 甲 | 1 |\n\nNotes: 请讲慢一点"
    )
    assert (second.number, second.text) == (2, "# Second")


# Books and web pages


def test_a_book_is_read_chapter_by_chapter_in_its_order(tmp_path: Path) -> None:
    """The order is that of the spine, not that of the files."""
    path = tmp_path / "a.epub"
    chapters = {
        "z.xhtml": "<html><body><h1>第一章</h1><p>起。&nbsp;A &amp; B</p></body></html>",
        "a%20b.xhtml": "<p>合。</p>",
    }
    path.write_bytes(raw_epub(chapters, stored={"z.xhtml": chapters["z.xhtml"], "a b.xhtml": "<p>合。</p>"}))
    work = Work(path)

    pages = list(epub.pages(work))

    assert work.title == "Book"
    assert [(page.number, page.label, page.text) for page in pages] == [
        (1, "第一章", "# 第一章\n\n起。 A & B"),
        (2, "", "合。"),
    ]


def test_a_book_in_chinese_encoding_is_no_nonsense(tmp_path: Path) -> None:
    """Old Chinese books are in GB2312, and say so or do not."""
    path = tmp_path / "a.epub"
    declared = '<?xml version="1.0" encoding="gb2312"?><p>泵站</p>'.encode("gb2312")
    parts = raw_epub(
        {"a.xhtml": "", "b.xhtml": ""},
        stored={"x": ""},
        more={"OEBPS/a.xhtml": declared, "OEBPS/b.xhtml": "<p>泵站</p>".encode("gbk")},
    )
    path.write_bytes(parts)

    assert [page.text for page in epub.pages(Work(path))] == ["泵站", "泵站"]


HTML = """<!doctype html><html><head><title>My 页面</title><style>p { color: red }</style></head><body>
<nav><ul><li><a href="/">Home</a></li></ul></nav>
<h1>标题 &amp; more</h1>
<p>第一行
第二行 with<br>a <b>bold</b> end</p>
<ol><li>one<ul><li>inner</li></ul></li><li>two</li></ol>
<table><caption>Values</caption><tr><th>a</th><th colspan="2">b</th></tr>
<tr><td>1</td><td>2|3</td><td>4</td></tr></table>
<pre>x = 1
  y</pre>
<div hidden>no</div><script>alert("<p>no")</script><p style="display: none">no</p><template>no</template>
<blockquote>quoted</blockquote>tail<img src="x" alt="图">
</body></html>"""


@pytest.mark.parametrize("codec", ["utf-8", "gb18030", "utf-16"])
def test_a_web_page_is_what_its_readers_see(tmp_path: Path, codec: str) -> None:
    """Scripts, styles and what is hidden on purpose are none of it."""
    path = tmp_path / "a.html"
    path.write_bytes(HTML.encode(codec))
    work = Work(path)

    (page,) = html.pages(work)

    assert work.title == "My 页面"
    assert page.text == (
        "- Home\n\n# 标题 & more\n\n第一行第二行 with\na bold end\n\n1. one\n  - inner\n2. two\n\nValues\n\n"
        "| a | b |  |\n| --- | --- | --- |\n| 1 | 2\\|3 | 4 |\n\n```\nx = 1\n  y\n```\n\nquoted\n\ntail图"
    )


def test_a_table_that_lays_out_a_page_is_no_table(tmp_path: Path) -> None:
    """Old web pages, and mails to this day, put whole articles into cells."""
    path = tmp_path / "a.html"
    path.write_text(f"<html><table><tr><td>{'长文。' * 300}</td><td>side</td></tr></table>", encoding="utf-8")

    (page,) = html.pages(Work(path))

    assert page.text == f"{'长文。' * 300}\n\nside"


def test_parts_of_office_files_are_found_wherever_they_stand(tmp_path: Path) -> None:
    """Their names are a habit; what points to them is the rule."""
    path = tmp_path / "a.docx"
    path.write_bytes(
        zipped(
            {
                "_rels/.rels": RELATIONS.format("/Word/Main.xml").replace(
                    "http://schemas.openxmlformats.org/officeDocument/2006/",
                    "http://purl.oclc.org/ooxml/officeDocument/",
                ),
                "word/main.xml": (
                    '<w:document xmlns:w="http://purl.oclc.org/ooxml/wordprocessingml/main"><w:body><w:p><w:r><w:t>文</w:t>'
                    "</w:r></w:p></w:body></w:document>"
                ),
            }
        )
    )

    assert [page.text for page in docx.pages(Work(path))] == ["文"]
