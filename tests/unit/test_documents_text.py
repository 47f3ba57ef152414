"""Plain texts: their encodings, their paragraphs, their pages, and tables that are written as text."""

import json
from pathlib import Path

import pytest

from hanlin.documents.parsers import delimited, encodings, flow, html, plain, structured
from hanlin.documents.parsers.work import Work

ZH_HANS = "你好，世界。这是一份关于水泵检修的说明，请妥善保管。"
ZH_HANT = "你好，世界。這是一份關於水泵檢修的說明，請妥善保管。"
JA = "これはポンプの検査についての文書です。"
KO = "안녕하세요. 이것은 펌프 점검에 관한 문서입니다."
FR = "Le café est fermé à cause du résumé très long; l'été où nous étions là-bas."
RU = "Это описание ремонта насоса, которое нужно хранить."


@pytest.mark.parametrize(
    ("text", "codec"),
    [
        *((ZH_HANS, codec) for codec in ("utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030", "gb2312")),
        *((ZH_HANT, codec) for codec in ("utf-8", "big5", "gb18030")),
        ("你好", "gb18030"),
        ("你好", "big5"),
        ("王建国,李秀英,张晓东\n", "gb18030"),
        ("plain\nHello 你好 world\n" * 3, "utf-16-le"),
        ("plain\nHello 你好 world\n" * 3, "utf-16-be"),
        (JA, "cp932"),
        (JA, "euc_jp"),
        (KO, "cp949"),
        (FR, "cp1252"),
        (RU, "cp1251"),
        ("plain", "ascii"),
        ("𠮷野家 😀", "utf-8"),
    ],
)
def test_a_text_is_read_in_the_encoding_that_it_was_written_in(tmp_path: Path, text: str, codec: str) -> None:
    """Chinese files in GB18030 and Big5 are everyday things, and the wrong guess makes nonsense of all of it."""
    path = tmp_path / "file"
    path.write_bytes(text.encode(codec))

    found = encodings.encoding_of(path)

    assert found is not None
    assert "".join(encodings.text_of(path, found)) == text.lstrip("\ufeff")


def test_a_character_that_two_pieces_of_a_file_share_is_whole(tmp_path: Path) -> None:
    """Files are read in pieces, and pieces end anywhere."""
    path = tmp_path / "file"
    text = ZH_HANS * 8000
    path.write_bytes(f"a{text}".encode("gb18030"))

    assert "".join(encodings.text_of(path, encodings.encoding_of(path) or "")) == f"a{text}"


def test_line_ends_of_all_systems_become_one(tmp_path: Path) -> None:
    """What follows looks for one kind only."""
    path = tmp_path / "file"
    path.write_bytes(b"a\r\nb\rc\nd\r")

    assert "".join(encodings.text_of(path, "utf-8")) == "a\nb\nc\nd\n"


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (["水泵的", "检修"], "水泵的检修"),
        (["a long", "line"], "a long line"),
        (["共计", "18.4%，", "其中"], "共计18.4%，其中"),
        (["well-", "known"], "well-known"),
        (["divi\u00ad", "ded"], "divided"),
        (["使用", "Word", "编辑"], "使用Word编辑"),
        (["", " a ", ""], "a"),
    ],
)
def test_lines_are_joined_as_their_script_is_written(lines: list[str], text: str) -> None:
    """A space within a Chinese word hides it from every search."""
    assert flow.joined(lines) == text


def test_a_long_text_is_cut_at_paragraphs_and_nothing_of_it_is_lost() -> None:
    """A page that ends within a sentence cannot be quoted."""
    text = "\n\n".join(f"paragraph {number} " + "x" * 90 for number in range(100))

    pieces = list(flow.pieces(text, 1000))

    assert "".join(pieces) == text
    assert all(len(piece) <= 1000 for piece in pieces)
    assert all(piece.startswith("paragraph") for piece in pieces)


def test_pages_turn_when_they_are_full_and_where_the_document_says() -> None:
    """Both, because most texts have no pages of their own."""
    pages = list(flow.paged(["a" * 60, "b" * 60, None, "c", None, None, "d" * 250], size=100))

    assert [(page.number, page.text[:1], len(page.text)) for page in pages] == [
        (1, "a", 60), (2, "b", 60), (3, "c", 1), (4, "", 0), (5, "d", 100), (6, "d", 100), (7, "d", 50),
    ]  # fmt: skip


def test_every_piece_of_a_long_table_has_its_header() -> None:
    """Numbers without the names of their columns mean nothing."""
    rows = [["name", "value"], *([f"row {number}", str(number)] for number in range(40))]

    pieces = list(flow.tables(rows, size=200))

    assert len(pieces) > 3
    assert all(piece.startswith("| name | value |\n| --- | --- |\n| row ") for piece in pieces)
    assert sum(piece.count("| row ") for piece in pieces) == 40


@pytest.mark.parametrize("count", [167, 5000])
def test_a_table_in_a_text_has_its_head_on_every_page(tmp_path: Path, count: int) -> None:
    """As in any other format; what stands around it stays where it was, and nothing is told twice."""
    head = "| 编号 | 品名 |\n| --- | --- |"
    rows = [f"| A-{number:04d} | 商品{number} |" for number in range(count)]
    path = tmp_path / "a.md"
    path.write_text("\n".join(["前言", "", "表1", head, *rows, "表完", "", "后记"]), encoding="utf-8")

    pages = [page.text for page in plain.pages(Work(path))]

    assert len(pages) > 1
    assert [row for page in pages for row in page.split("\n") if row.startswith("| A-")] == rows
    assert all(page.partition("\n| A-")[0].endswith(head) for page in pages if "| A-" in page)
    assert pages[0].startswith("前言\n\n表1\n\n| 编号")
    assert pages[-1].endswith("|\n\n表完\n\n后记")


@pytest.mark.parametrize("text", ["| a | b |\n|---|---|\n" + "x" * 100_000, "| a | b |\n|---|---|\n" * 5000])
def test_heads_without_tables_do_no_harm(tmp_path: Path, text: str) -> None:
    """A head that nothing stands below is text like any other, whatever comes where rows are expected."""
    path = tmp_path / "a.md"
    path.write_text(text, encoding="utf-8")

    told = "".join(page.text for page in plain.pages(Work(path)))

    assert told.count("x") == text.count("x")
    assert told.count("a") >= text.count("a")


def test_a_form_feed_ends_a_page(tmp_path: Path) -> None:
    """It is how printers were told so, and some programs still write it."""
    path = tmp_path / "a.txt"
    path.write_text("one\n\ftwo\f\n\nfour", encoding="utf-8")

    assert [page.text for page in plain.pages(Work(path))] == ["one", "two", "four"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_table_is_found_whatever_divides_its_columns(tmp_path: Path, delimiter: str) -> None:
    """Excel writes semicolons wherever a comma is the decimal mark."""
    path = tmp_path / "a.csv"
    lines = [["名称", "数量", "说明"], ["水泵", "3", '"大, 重; 旧|\t坏"'], ["阀门", "5", ""]]
    path.write_text("\n".join(delimiter.join(line) for line in lines), encoding="gb18030")

    (page,) = delimited.pages(Work(path))

    assert page.text == "| 名称 | 数量 | 说明 |\n| --- | --- | --- |\n| 水泵 | 3 | 大, 重; 旧\\| 坏 |\n| 阀门 | 5 |  |"


def test_excel_may_be_told_what_divides_columns(tmp_path: Path) -> None:
    """Its own first line for that is none of the table."""
    path = tmp_path / "a.csv"
    path.write_text("sep=;\n编号;数量\n1;2,5\n", encoding="utf-16")

    (page,) = delimited.pages(Work(path))

    assert page.text == "| 编号 | 数量 |\n| --- | --- |\n| 1 | 2,5 |"


@pytest.mark.parametrize("line", ["abc,def\n", "abc,def "])
def test_characters_that_come_late_say_how_a_text_is_written(tmp_path: Path, line: str) -> None:
    """A log may hold nothing but ASCII for a megabyte."""
    path = tmp_path / "a.log"
    path.write_bytes((line * 40_000 + f"{ZH_HANS}\n" * 9).encode("gb18030"))

    assert encodings.encoding_of(path) == "gb18030"


@pytest.mark.parametrize(
    ("declared", "codec", "text"),
    [
        ("windows-1251", "windows-1251", "Цех"),
        ("gb2312", "gb18030", "龘"),
        ("Shift_JIS", "shift_jis", "弁"),
        ("utf-8", "gb18030", ZH_HANS),
        ("punycode", "gb18030", ZH_HANS),
    ],
)
def test_a_page_is_read_as_it_says_where_it_can_be(tmp_path: Path, declared: str, codec: str, text: str) -> None:
    """A word or two are too few to tell encodings apart; what a page says may be wrong, or a trap."""
    path = tmp_path / "a.html"
    path.write_bytes(f'<html><meta charset="{declared}"><p>{text}'.encode(codec))

    (page,) = html.pages(Work(path))

    assert page.text == text


def test_a_quoted_line_end_stays_within_its_cell(tmp_path: Path) -> None:
    """A table that loses its rows' ends there is none."""
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,"two\nlines"\n3,4\n', encoding="utf-8")

    (page,) = delimited.pages(Work(path))

    assert page.text.splitlines()[2:] == ["| 1 | two lines |", "| 3 | 4 |"]


RECORDS = [{"name": "水泵", "count": 3}, {"name": "阀门", "count": 2.5, "new": True}, {"name": None}]
TABLE = "| name | count | new |\n| --- | --- | --- |\n| 水泵 | 3 |  |\n| 阀门 | 2.5 | true |\n|  |  |  |"


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_records_become_a_table(tmp_path: Path, name: str) -> None:
    """A table says each name once, and takes a third of the tokens."""
    path = tmp_path / name
    if name == "a.json":
        path.write_text(json.dumps(RECORDS, ensure_ascii=False), encoding="gb18030")
    else:
        path.write_text("\n".join(json.dumps(record) for record in RECORDS), encoding="utf-8-sig")

    assert [page.text for page in structured.pages(Work(path))] == [TABLE]


def test_records_that_an_object_wraps_become_a_table_too(tmp_path: Path) -> None:
    """Most programs answer with a list within an object that says how many there are."""
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"total": 3, "data": RECORDS}, ensure_ascii=False), encoding="utf-8")

    assert [page.text for page in structured.pages(Work(path))] == [f"total: 3\n\n# data\n\n{TABLE}"]


def test_records_within_what_a_service_answers_become_a_table(tmp_path: Path) -> None:
    """Services wrap their data in an object of data, with codes and counts around it."""
    path = tmp_path / "a.json"
    path.write_text('{"code": 0, "data": {"total": 2, "list": [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]}}')

    (page,) = structured.pages(Work(path))

    assert page.text == ("code: 0\n\n# data\n\ntotal: 2\n\n## list\n\n| a | b |\n| --- | --- |\n| 1 | x |\n| 2 | y |")


def test_fields_of_objects_within_records_are_columns(tmp_path: Path) -> None:
    """A line of a log of orders has a customer within it; records with lists of others are shown by themselves."""
    path = tmp_path / "a.jsonl"
    lines = [{"id": n, "客户": {"姓名": "张三", "地址": {"市": "杭州"}}, "标签": ["新", 1]} for n in (1, 2)]
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
    deep = tmp_path / "b.jsonl"
    deep.write_text('{"id": 1, "items": [{"a": 1}]}\n{"id": 2, "items": []}\n')

    (page,) = structured.pages(Work(path))
    (other,) = structured.pages(Work(deep))

    assert page.text.splitlines()[0] == "| id | 客户.姓名 | 客户.地址.市 | 标签 |"
    assert page.text.splitlines()[3] == "| 2 | 张三 | 杭州 | 新, 1 |"
    assert '"items": [' in other.text


def test_other_json_is_shown_as_it_is(tmp_path: Path) -> None:
    """What is nested is no table."""
    path = tmp_path / "a.json"
    path.write_text('{"a":{"b":[1,"二"]}}', encoding="utf-8")

    (page,) = structured.pages(Work(path))

    assert json.loads(page.text) == {"a": {"b": [1, "二"]}}
    assert '\n    "b": [' in page.text


def test_what_only_claims_to_be_json_is_told_as_text(tmp_path: Path) -> None:
    """A comment or a comma too many is no reason to refuse what everybody can read."""
    path = tmp_path / "a.json"
    path.write_text('{"a": 1, // one\n}', encoding="utf-8")

    (page,) = structured.pages(Work(path))

    assert page.text == '{"a": 1, // one\n}'
