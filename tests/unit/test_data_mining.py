"""Data out of documents: complete, of the form that was asked for, and nothing that is not in the source."""

import json
import random
import re
from collections.abc import Callable
from typing import Any

import httpx2
import msgspec
import pytest

from hanlin import schemas
from hanlin.documents.values import Page
from hanlin.errors import AnswerUnfit, HanlinError, InvalidRequest, UnsupportedHere
from hanlin.media.fetching import Fetcher
from hanlin.recipes.data_mining import DATA_MINING, check
from hanlin.recipes.data_mining.mining import Mined, Miner
from hanlin.recipes.recipe import Recipe
from hanlin.recipes.tables import written
from hanlin.types import ChatRequest, MediaPart, Message, Sampling, Shape, TextPart, fold
from tests.documents import (
    MemoryDocument,
    MemoryLibrary,
    Scholar,
    asked,
    document,
    events_of,
    filler,
    library,
    needles,
    shaped,
)
from tests.values import Clock, model

HEADERS = ["编号", "品名", "单价", "状态"]
EXAMPLE = '[{"编号":"","品名":"","单价":"","状态":""}]'
RECORD = {
    "type": "object",
    "properties": {name: {"type": "string"} for name in HEADERS},
    "required": HEADERS,
    "additionalProperties": False,
}


def recipe(**options: Any) -> Recipe:
    """Return the recipe with nothing remembered."""
    return Recipe("data-mining", Miner(**options).run, check)


def rows(first: int, count: int) -> list[tuple[str, ...]]:
    return [
        (f"A-{at:04d}", f"商品{at}", f"¥{at * 3 + 1:,}.50", ("已付", "未付")[at % 2])
        for at in range(first, first + count)
    ]


def sheet(first: int, count: int, pages: int = 1) -> list[Page]:
    """Return pages with a table of so many rows, its head on each."""
    found, each = rows(first, count), -(-count // pages)
    return [Page(at + 1, written(HEADERS, found[at * each : (at + 1) * each]), "Sheet1") for at in range(pages)]


def of(file: MemoryDocument | None, instruction: str, **fields: Any) -> ChatRequest:
    """Return a request about a file, as the documentation writes it."""
    named = [("system", f"fileid://{file.id}")] if file is not None else []
    return asked(
        ("system", "You are a helpful assistant."),
        *named,
        ("user", instruction),
        **{"model": "qwen-doc-turbo", **fields},
    )


async def told(
    request: ChatRequest, base: Scholar, *files: MemoryDocument, by: Recipe | None = None
) -> tuple[str, Mined]:
    """Return an answer and what is reported of it."""
    result = fold(await events_of(by or recipe(), request, base, library(*files), model=model("qwen-doc-turbo")))
    assert result.report is not None
    return result.choices[0].text, msgspec.json.decode(result.report, type=Mined)


def forms(request: ChatRequest, name: str) -> bool:
    """Whether a request asks for a form with this field."""
    return request.shape is not None and name in request.shape.schema.get("properties", {})


def data(text: str) -> Any:
    """Return the JSON of an answer as the vendor's pages read it: without the first and the last line of a fence."""
    return json.loads("\n".join(text.splitlines()[1:-1]) if text.startswith("```") else text)


# --- tables


@pytest.mark.parametrize(
    ("first", "count", "pages", "name"), [(1, 200, 1, "a.xlsx"), (201, 150, 1, "b.csv"), (351, 150, 10, "c.pdf")]
)
async def test_a_long_table_comes_back_whole_in_order_and_to_the_letter(
    first: int, count: int, pages: int, name: str
) -> None:
    """Spec §3.5: 200 rows are 200 records, whatever the format and however many pages."""
    file = document(*sheet(first, count, pages), name=name)

    text, report = await told(of(file, f"提取所有记录，输出JSON数组：{EXAMPLE}"), Scholar(), file)

    records = data(text)
    assert [tuple(record.values()) for record in records] == rows(first, count)
    assert schemas.problem(records, {"type": "array", "items": RECORD}) is None
    assert (report.strategy, report.rows, report.missed) == ("rows", count, 0)


async def test_fields_under_other_names_are_mapped_to_columns_by_one_call() -> None:
    """The model says which column is meant; the rows are copied, so that none is lost or changed."""
    file = document(*sheet(1, 200), name="a.xlsx")
    base = Scholar()

    text, report = await told(of(file, '提取JSON：[{"商品编号":"","商品单价":""}]'), base, file)

    assert [record["商品编号"] for record in data(text)] == [row[0] for row in rows(1, 200)]
    assert report.calls == 1


async def test_of_several_sheets_those_with_such_columns_are_read() -> None:
    """A workbook has a sheet of notes and two of orders."""
    notes = Page(3, written(["备注", "日期"], [("年终盘点", "2024-12-31")]), "Notes")
    more = written(["编号", "品名", "单价", "状态", "仓库"], [(*row, "东") for row in rows(51, 30)])
    file = document(*sheet(1, 50), Page(2, more, "Sheet2"), notes, name="a.xlsx")

    text, report = await told(of(file, f"提取所有记录，输出JSON数组：{EXAMPLE}"), Scholar(), file)

    assert [tuple(record.values()) for record in data(text)] == rows(1, 80)
    assert report.rows == 80


async def test_a_remark_beside_a_table_does_not_change_its_order() -> None:
    """It makes a column without a name on its page alone; two columns of the same name are two."""
    remark = written([*HEADERS, ""], [(*row, "看这里" if at == 3 else "") for at, row in enumerate(rows(21, 20))])
    twice = written(["编号", "备注", "备注"], [("A", "一", "二")])
    file = document(*sheet(1, 20), Page(2, remark), Page(3, written(HEADERS, rows(41, 20))), name="a.xlsx")
    other = document(twice, name="b.csv")

    text, _ = await told(of(file, f"提取所有记录，输出JSON数组：{EXAMPLE}"), Scholar(), file)
    both, report = await told(of(other, '提取JSON：[{"编号":"","备注":"","备注 2":""}]'), Scholar(), other)

    assert [tuple(record.values()) for record in data(text)] == rows(1, 60)
    assert (data(both), report.strategy) == ([{"编号": "A", "备注": "一", "备注 2": "二"}], "rows")


async def test_what_was_right_is_kept_where_asking_again_brings_nothing() -> None:
    """One made-up value is no reason to lose the others."""
    file = document("姓名：张三，电话：123456", name="a.txt")
    answers = iter(['{"姓名": "张三", "电话": "654321"}'])
    base = Scholar(replies=[lambda _: next(answers, "不知道")])

    text, report = await told(of(file, '提取JSON：{"姓名":"","电话":""}'), base, file)

    assert (data(text), report.dropped, report.parts_read) == ({"姓名": "张三", "电话": ""}, 1, 1)


async def test_parts_that_no_answer_fitted_are_not_counted_as_read() -> None:
    """Silence about them would be a wrong count."""
    file = document("姓名：张三", name="a.txt")

    text, report = await told(of(file, '提取JSON：[{"姓名":""}]'), Scholar(replies=[lambda _: "不知道"]), file)

    assert (data(text), report.parts, report.parts_read) == ([], 1, 0)


async def test_only_rows_that_meet_the_condition_are_records() -> None:
    """The condition is worked out for every row, not guessed."""
    file = document(*sheet(1, 200), name="a.xlsx")

    text, report = await told(of(file, f"只要状态为已付的记录，去掉货币符号，输出JSON：{EXAMPLE}"), Scholar(), file)

    records = data(text)
    assert [record["编号"] for record in records] == [row[0] for row in rows(1, 200) if row[3] == "已付"]
    assert all(re.fullmatch(r"\d+\.50", record["单价"]) for record in records)
    assert report.records == 100


async def test_a_field_that_is_no_column_has_the_rows_read_in_batches_and_counted() -> None:
    """A judgement of every row needs the model; it tires, so what it left out is asked for again."""
    file = document(*sheet(1, 60), name="a.xlsx")
    form = '[{"编号":"","级别":"高|低"}]'

    def tired(request: ChatRequest) -> str | None:
        if request.shape is None or not forms(request, "records"):
            return None
        numbers = request.shape.schema["properties"]["records"]["items"]["properties"]["#"]["enum"]
        some = [number for number in numbers if len(numbers) < 3 or number % 5]
        return json.dumps({"records": [{"#": n, "编号": f"A-{n:04d}", "级别": "高"} for n in some]}, ensure_ascii=False)

    text, report = await told(of(file, f"判断每条记录的级别，JSON：{form}"), Scholar(replies=[tired]), file)

    assert [record["编号"] for record in data(text)] == [f"A-{n:04d}" for n in range(1, 61)]
    assert (report.rows, report.missed) == (60, 0)


async def test_rows_that_no_record_comes_of_are_reported() -> None:
    """Silence about a gap would be a wrong count."""
    file = document(*sheet(1, 20), name="a.xlsx")
    nothing = Scholar(
        replies=[lambda r: '{"records":[]}' if r.shape and "records" in r.shape.schema["properties"] else None]
    )

    _, report = await told(of(file, '判断级别，JSON：[{"编号":"","级别":"高|低"}]'), nothing, file)

    assert (report.rows, report.missed, report.records) == (20, 20, 0)


async def test_a_field_and_a_column_may_be_called_as_the_numbers_of_rows_are() -> None:
    """`#` is what many tables call their first column."""
    table = written(["#", "品名"], [(f"N{at}", f"商品{at}") for at in range(5)])
    file = document(table, name="a.xlsx")
    form = '[{"#":"","级别":"高|低"}]'

    def judged(request: ChatRequest) -> str | None:
        if request.shape is None or not forms(request, "records"):
            return None
        numbers = request.shape.schema["properties"]["records"]["items"]["properties"]["##"]["enum"]
        return json.dumps({"records": [{"##": n, "#": f"N{n - 1}", "级别": "高"} for n in numbers]})

    text, report = await told(of(file, f"判断每条记录的级别，JSON：{form}"), Scholar(replies=[judged]), file)

    assert data(text) == [{"#": f"N{at}", "级别": "高"} for at in range(5)]
    assert report.missed == 0


async def test_cells_that_leave_a_number_out_do_not_have_the_table_read_by_the_model() -> None:
    """One `暂无` among hundreds of prices is no price, and no reason to doubt the others."""
    cells = [("螺丝", "¥1.50"), ("螺母", "暂无"), ("垫片", "-"), ("螺栓", "1.2万元")]
    file = document(written(["品名", "单价"], cells), name="a.xlsx")
    base = Scholar()

    text, _ = await told(of(file, '提取所有记录，输出JSON数组：[{"品名":"","单价":0}]'), base, file)

    assert [record["单价"] for record in data(text)] == [1.5, None, None, 12000]
    assert base.requests == []


async def test_cells_longer_than_all_that_a_model_reads_are_no_reason_to_fail() -> None:
    """Articles in a table: columns are named by how they begin, and a row that cannot be read is reported."""
    long = "正文" * 20_000
    file = document(written(["编号", "文章内容"], [("A-1", long), ("A-2", "短"), ("A-3", "短")]), name="a.csv")

    copied, _ = await told(of(file, '提取JSON：[{"编号":"","文章":""}]'), Scholar(), file)
    _, report = await told(of(file, '判断级别，JSON：[{"编号":"","级别":"高|低"}]'), Scholar(), file)

    assert [record["文章"] for record in data(copied)] == [long, "短", "短"]
    assert (report.rows, report.missed) == (3, 1)


async def test_rows_that_no_time_was_left_for_are_reported() -> None:
    """A table of judgements can be as long as a document, and an unstreamed call has its limit here too."""
    file = document(*sheet(1, 400), name="a.xlsx")
    clock = Clock()

    def slow(request: ChatRequest) -> str | None:
        clock.now += 100.0
        return None

    asked_for = of(file, '判断每条记录的级别，JSON：[{"编号":"","级别":"高|低"}]')
    _, report = await told(asked_for, Scholar(replies=[slow]), file, by=recipe(clock=clock))

    assert 0 < report.missed < report.rows == 400
    assert report.calls < 10


# --- running text


def manual(first: int, count: int, name: str) -> MemoryDocument:
    lines = [f"产品：P{at}，价格：{at + 5}元，颜色：红" for at in range(first, first + count)]
    return document(*("\n".join(lines[at : at + 40]) for at in range(0, count, 40)), name=name)


async def test_records_of_running_text_are_complete_in_order_and_once() -> None:
    """Parts share a little text, so that a record is never cut; what stands in both is one record."""
    file = manual(0, 300, "m.docx")

    text, report = await told(of(file, '提取全部产品，JSON：[{"产品":"","价格":"","颜色":""}]'), Scholar(), file)

    assert [record["产品"] for record in data(text)] == [f"P{at}" for at in range(300)]
    assert report.parts == report.parts_read > 1


async def test_records_that_are_alike_and_stand_twice_are_two() -> None:
    """Two equal lines of an invoice are two items."""
    file = document("\n".join(["品名：螺丝，数量：4"] * 3), name="i.txt")

    text, _ = await told(of(file, '提取JSON：[{"品名":"","数量":""}]'), Scholar(), file)

    assert len(data(text)) == 3


async def test_keys_are_those_of_the_instruction() -> None:
    """Spec §3.4: verbatim; the model names the fields once, and what is not in the instruction is no key."""
    file = document("姓名：张三，电话：123456，地址：杭州", name="a.txt")
    named = {"many": True, "fields": [{"name": "姓名", "type": "string"}, {"name": "phone", "type": "string"}]}
    base = Scholar(
        replies=[lambda r: json.dumps(named) if r.shape and "many" in r.shape.schema["properties"] else None]
    )

    text, _ = await told(of(file, "提取人员信息，以JSON返回，包括姓名"), base, file)

    assert data(text) == [{"姓名": "张三"}]


async def test_prices_stay_text_unless_numbers_are_asked_for() -> None:
    """Spec §3.1: as the vendor answers them."""
    named = {"many": False, "fields": [{"name": "价格", "type": "number"}]}
    base = Scholar(replies=[lambda request: json.dumps(named) if forms(request, "many") else None])
    file = document("价格：35元", name="a.txt")

    text, _ = await told(of(file, "提取价格，以JSON返回"), base, file)

    assert data(text) == {"价格": "35元"}


async def test_a_value_that_is_not_in_the_source_is_asked_for_again_and_then_left_out() -> None:
    """Spec §3.5: no value absent from the source."""
    file = document("姓名：张三，电话：123456", name="a.txt")
    form = '{"姓名":"","电话":""}'
    lies = Scholar(replies=[lambda _: '{"姓名": "张三", "电话": "654321"}'])
    answers = iter(['{"姓名": "张三", "电话": "654321"}', '{"姓名": "张三", "电话": "123456"}'])
    mends = Scholar(replies=[lambda _: next(answers)])

    left_out, report = await told(of(file, f"提取JSON：{form}"), lies, file)
    mended, _ = await told(of(file, f"提取JSON：{form}"), mends, file)

    assert data(left_out) == {"姓名": "张三", "电话": ""}
    assert report.dropped == 1
    assert "654321" in lies.prompts[1]
    assert data(mended) == {"姓名": "张三", "电话": "123456"}


INVENTED = ("铁杉重工", "¥88888", "2031-07-19", "蓝鲸", "13999999999")


def liar(chance: random.Random) -> Callable[[ChatRequest], str | None]:
    """Return a reply that adds to what a text says: whole records, other values, one digit more or less."""

    def lie(request: ChatRequest) -> str | None:
        if request.shape is None:
            return None
        value = shaped(request)
        for record in value["records"]:
            for name, said in record.items():
                kind = chance.randrange(6)
                if kind == 0 or said is None:
                    record[name] = chance.choice(INVENTED)
                elif kind == 1:
                    record[name] = said[:-1] if said[-1:].isdigit() else f"{said}{chance.choice(INVENTED)}"
                elif kind == 2:
                    record[name] = re.sub(r"\d$", lambda digit: str((int(digit[0]) + 1) % 10), said)
        for _ in range(chance.randrange(3)):
            value["records"].append({name: chance.choice(INVENTED) for name in ("姓名", "单号", "金额", "日期")})
        return json.dumps(value, ensure_ascii=False)

    return lie


async def test_no_value_of_a_hundred_documents_is_absent_from_them() -> None:
    """Spec §3.5, with a model that invents on purpose whenever it is asked: what is not in a document is left out."""
    chance = random.Random(35)
    fields = ("姓名", "单号", "金额", "日期")
    kept = dropped = 0

    for number in range(100):
        people = [
            {
                "姓名": "".join(chance.choices("赵钱孙李周吴郑王冯陈褚卫", k=3)),
                "单号": f"D-{chance.randrange(10**5, 10**6)}",
                "金额": f"{chance.randrange(100, 1000)}.{chance.randrange(10, 100)}元",
                "日期": f"20{chance.randrange(10, 25)}-{chance.randrange(10, 13)}-{chance.randrange(10, 29)}",
            }
            for _ in range(chance.randrange(1, 6))
        ]
        lines = ["，".join(f"{name}：{person[name]}" for name in fields) for person in people]
        file = document("\n".join([f"第{number}号文件", *lines]), name=f"{number}.txt")

        asked_for = of(file, '提取所有记录，JSON：[{"姓名":"","单号":"","金额":"","日期":""}]')
        text, report = await told(asked_for, Scholar(replies=[liar(chance)]), file)

        said = {name: {person[name] for person in people} | {""} for name in fields}
        records = data(text)
        assert [(name, record[name]) for record in records for name in fields if record[name] not in said[name]] == []
        kept += sum(bool(record[name]) for record in records for name in fields)
        dropped += report.dropped

    assert kept > 500
    assert dropped > 300


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("价格：135元", "35元"),
        ("编号 A-00123", "A-0012"),
        ("总价 ¥1,234.50", "234.50"),
        ("总价 ¥1,234.50", "1234"),
        ("电话 13800138000", "1380013800"),
    ],
)
async def test_a_piece_of_a_number_is_another_number(source: str, value: str) -> None:
    """Digits stand in digits everywhere; that says nothing."""
    file = document(source, name="a.txt")
    base = Scholar(replies=[lambda _: json.dumps({"value": value})])

    text, report = await told(of(file, '提取JSON：{"value":""}'), base, file)

    assert (data(text), report.dropped) == ({"value": ""}, 1)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("总价 ¥1,234.50", "1234.50"),
        ("编号 00123，2024年", "2024年"),
        ("2024-03-05", "2024"),
        ("签于 2024 年 3 月 5 日", "2024-03-05"),
        ("共三百二十人", "320"),
        ("Total: USD 12,000", "12000"),
        ("电话：010-1234 5678", "01012345678"),
    ],
)
async def test_a_value_may_be_written_otherwise_than_in_the_source(source: str, value: str) -> None:
    """Without currency, separators and blanks, as a date or in digits: what a caller may well ask for."""
    file = document(source, name="a.txt")
    base = Scholar(replies=[lambda _: json.dumps({"value": value})])

    text, report = await told(of(file, '提取JSON：{"value":""}'), base, file)

    assert (data(text), report.dropped) == ({"value": value}, 0)


async def test_one_object_is_merged_from_all_parts() -> None:
    """A contract names its parties on the first page and its price on the last."""
    file = document(*needles(filler(40), (1, "甲方：云杉公司"), (40, "总价：35元")), name="c.docx")

    text, _ = await told(of(file, '提取JSON：{"甲方":"","总价":"","乙方":""}'), Scholar(), file)

    assert data(text) == {"甲方": "云杉公司", "总价": "35元", "乙方": ""}


async def test_rows_of_a_table_in_running_text_that_were_overlooked_are_asked_for() -> None:
    """The second pass: records are counted against rows."""
    text = (
        "产品目录\n\n"
        + "说明文字。" * 60
        + "\n\n"
        + written(["品名", "单价"], [(f"商品{at}", f"{at}元") for at in range(10, 22)])
    )
    file = document(text, name="a.docx")
    seen: list[str] = []

    def tired(request: ChatRequest) -> str | None:
        seen.append(request.messages[-1].text)
        first = len(seen) == 1
        wanted = range(10, 18) if first else range(18, 22)
        return json.dumps({"records": [{"品名": f"商品{at}", "单价": f"{at}元"} for at in wanted]}, ensure_ascii=False)

    found, _ = await told(of(file, '提取JSON：[{"品名":"","单价":""}]'), Scholar(replies=[tired]), file)

    assert [record["品名"] for record in data(found)] == [f"商品{at}" for at in range(10, 22)]
    assert "商品10 " not in seen[1]
    assert "商品21" in seen[1]


async def test_an_answer_that_does_not_fit_is_asked_for_in_halves() -> None:
    """A part with too many records for one answer is no reason to lose some."""
    lines = "\n".join(f"品名：商品{at}，单价：{at}元" for at in range(120))
    file = document(lines, name="a.txt")

    text, report = await told(of(file, '提取JSON：[{"品名":"","单价":""}]'), Scholar(), file)

    assert len(data(text)) == 120
    assert report.calls > report.parts


async def test_an_engine_that_cannot_be_held_to_a_form_is_told_it_and_asked_again() -> None:
    """JSON mode of an upstream: validate and ask again."""
    file = document("姓名：张三", name="a.txt")
    answers = iter(["好的，姓名是张三", '```json\n{"姓名": "张三"}\n```'])
    base = Scholar(can_shape=False, replies=[lambda _: next(answers)])

    text, _ = await told(of(file, '提取JSON：{"姓名":""}'), base, file)

    assert data(text) == {"姓名": "张三"}
    assert base.requests[0].shape is None
    assert "JSON Schema" in base.prompts[0]
    assert "not JSON" in base.requests[1].messages[-1].text


async def test_reading_ends_in_time_and_says_so() -> None:
    """An unstreamed call has a limit."""
    file = document(*filler(300), name="m.docx")
    clock = Clock()

    def slow(_request: ChatRequest) -> str | None:
        clock.now += 400.0
        return None

    _, report = await told(of(file, '提取JSON：[{"产品":""}]'), Scholar(replies=[slow]), file, by=recipe(clock=clock))

    assert 0 < report.parts_read < report.parts


@pytest.mark.parametrize(
    ("instruction", "price", "count", "share"),
    [
        ("", "¥1299.50", "4件", "5%"),
        ("价格去掉货币符号，", "1299.50", "4件", "5%"),
        ("不要货币符号和单位，", "1299.50", "4", "5%"),
        ("only digits, without currency symbols and units,", "1299.50", "4", "5%"),
    ],
)
async def test_amounts_lose_their_signs_where_that_is_asked_for(
    instruction: str, price: str, count: str, share: str
) -> None:
    """Spec §3.4: only when told, whether a model reads them or they are copied. A share is nothing without its sign."""
    read = document("说明。" * 60 + "\n价格：¥1299.50，数量：4件，折扣：5%", name="a.txt")
    copied = document(written(["价格", "数量", "折扣"], [("¥1299.50", "4件", "5%")]), name="a.xlsx")
    asked_for = f'提取所有记录，{instruction}JSON：[{{"价格":"","数量":"","折扣":""}}]'

    for file in (read, copied):
        text, _ = await told(of(file, asked_for), Scholar(), file)
        assert data(text) == [{"价格": price, "数量": count, "折扣": share}]


async def test_text_about_code_blocks_does_not_take_the_fence_away() -> None:
    """What must be left out is explanations; the code block is what the answer is to stand in."""
    file = document("姓名：张三", name="a.txt")

    text, _ = await told(of(file, '提取姓名，不要解释，放在```json代码块中：{"姓名":""}'), Scholar(), file)

    assert text.startswith("```json\n{")


# --- the form of the answer


async def test_a_schema_of_the_callers_is_kept_to_the_letter_without_a_fence() -> None:
    """`response_format`: references, optional fields and a root that is an object."""
    schema = {
        "type": "object",
        "properties": {"products": {"type": "array", "items": {"$ref": "#/$defs/Product"}}},
        "required": ["products"],
        "additionalProperties": False,
        "$defs": {
            "Product": {
                "type": "object",
                "properties": {
                    "品名": {"type": "string"},
                    "单价": {"type": "number"},
                    "备注": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                },
                "required": ["品名", "单价", "备注"],
                "additionalProperties": False,
            }
        },
    }
    file = document(*sheet(1, 50), name="a.xlsx")
    table = document(
        written(["品名", "单价", "备注"], [("螺丝", "¥1,200.50", ""), ("螺母", "3元", "新")]), name="b.xlsx"
    )

    text, _ = await told(of(table, "提取产品", shape=Shape("json_schema", "p", schema)), Scholar(), table, file)

    value = json.loads(text)
    assert value == {
        "products": [{"品名": "螺丝", "单价": 1200.5, "备注": None}, {"品名": "螺母", "单价": 3, "备注": "新"}]
    }
    assert schemas.problem(value, schema) is None


async def test_a_schema_that_no_document_fills_is_an_error_and_no_invention() -> None:
    """A zero that stands nowhere would be taken for data."""
    schema = {
        "type": "object",
        "properties": {"总价": {"type": "number"}},
        "required": ["总价"],
        "additionalProperties": False,
    }
    file = document("没有价格。", name="a.txt")

    with pytest.raises(AnswerUnfit):
        await told(of(file, "提取总价", shape=Shape("json_schema", "p", schema)), Scholar(), file)


@pytest.mark.parametrize(
    ("instruction", "fenced"),
    [
        ("提取姓名，以JSON返回", True),
        ("提取姓名，以JSON返回，不要用代码块包裹", False),
        ("提取姓名，输出JSON，不要包含```标记", False),
        ("Extract 姓名 as JSON without code fences", False),
        ("Extract 姓名 as JSON, no markdown", False),
    ],
)
async def test_json_stands_in_a_fence_unless_the_prompt_forbids_it(instruction: str, fenced: bool) -> None:
    """Spec §3.1: the vendor's habit, which its users strip."""
    file = document("姓名：张三", name="a.txt")

    text, _ = await told(of(file, f'{instruction}：{{"姓名":""}}'), Scholar(), file)

    assert text.startswith("```json\n{") == fenced
    assert text.endswith("\n```") == fenced
    assert data(text) == {"姓名": "张三"}


async def test_text_in_the_user_message_is_mined_as_well() -> None:
    """No file, no second system message: instruction and text in one."""
    text, _ = await told(of(None, '提取JSON：{"姓名":"","电话":""}\n\n姓名：张三，电话：123456'), Scholar())

    assert data(text) == {"姓名": "张三", "电话": "123456"}


@pytest.mark.parametrize("first", [True, False])
async def test_a_long_text_in_the_user_message_is_read_part_by_part(first: bool) -> None:
    """Spec §3.1: up to 9,000 tokens, which is more than a small model reads at once."""
    lines = "\n".join(f"产品：P{at}，价格：{at}元，颜色：红" for at in range(400))
    wanted = '提取全部产品，JSON：[{"产品":"","价格":"","颜色":""}]'
    base = Scholar(context_tokens=4096)

    text, report = await told(of(None, f"{wanted}\n\n{lines}" if first else f"{lines}\n\n{wanted}"), base)

    assert [record["产品"] for record in data(text)] == [f"P{at}" for at in range(400)]
    assert report.parts == report.parts_read > 4


async def test_an_answer_is_cut_where_the_caller_wants_no_more() -> None:
    """`max_tokens` holds here too, and the finish reason says so."""
    file = document(*sheet(1, 200), name="a.xlsx")

    request = of(file, f"提取JSON：{EXAMPLE}", sampling=Sampling(max_tokens=100))
    result = fold(await events_of(recipe(), request, Scholar(), library(file)))

    assert result.choices[0].finish_reason == "length"
    assert result.usage.completion == 100


# --- labels and words


@pytest.mark.parametrize(
    "instruction",
    [
        "判断文件属于哪个类别。类别：合同、简历、发票。只回答类别。",
        "请分类，标签包括：\n- 合同\n- 简历\n- 发票",
        'Classify the document. Labels: ["合同", "简历", "发票"]',
    ],
)
async def test_a_document_gets_one_of_the_labels_that_are_listed(instruction: str) -> None:
    """Closed labels: nothing else can be said."""
    file = document(*filler(100), "发票 发票 发票", name="a.pdf")
    base = Scholar()

    text, report = await told(of(file, instruction), base, file)

    assert text == "发票"
    assert report.strategy == "labels"
    assert base.requests[-1].shape is not None
    assert base.requests[-1].shape.schema["properties"]["labels"] == {"enum": ["合同", "简历", "发票"]}


async def test_several_labels_are_given_where_several_are_asked_for() -> None:
    """Tagging."""
    file = document("发票 发票 发票 合同 合同 合同", name="a.pdf")

    text, _ = await told(of(file, "打标签，可多选。标签：合同、简历、发票"), Scholar(), file)

    assert text == "合同、发票"


async def test_labels_in_json_are_held_to_the_list() -> None:
    """A label that was not listed is no label."""
    file = document("内容", name="a.txt")
    base = Scholar()

    await told(of(file, '分类，类别：合同、简历、发票。输出JSON：{"类别":""}'), base, file)

    assert base.requests[0].shape is not None
    assert base.requests[0].shape.schema["properties"]["类别"]["enum"] == ["合同", "简历", "发票", None]


async def test_a_question_in_words_is_answered_as_one_about_documents() -> None:
    """Summaries and questions, with pages."""
    file = document(*needles(filler(100), (42, "云杉项目的口令是蓝鲸7431。")), name="a.pdf")

    result = fold(await events_of(recipe(), of(file, "云杉项目的口令是什么？"), Scholar(), library(file)))

    assert "第42页" in result.choices[0].text


async def test_a_model_that_gives_no_label_is_an_error_of_ours() -> None:
    """Not one that nobody has foreseen."""
    file = document("内容", name="a.txt")

    with pytest.raises(AnswerUnfit):
        await told(of(file, "分类。类别：合同、简历。"), Scholar(replies=[lambda _: "我不知道"]), file)


# --- what is refused


def test_a_second_file_is_refused() -> None:
    """Spec §3.1: one file id a request."""
    request = asked(("system", "r"), ("system", "fileid://a,fileid://b"), ("user", "q"), model="qwen-doc-turbo")

    with pytest.raises(HanlinError, match=r"^Too many files provided\."):
        DATA_MINING.check(request, model())


@pytest.mark.parametrize(
    ("stream", "said", "kind"),
    [
        (False, "The parameter skill is only supported in stream mode", InvalidRequest),
        (True, "nothing here renders them", UnsupportedHere),
    ],
)
def test_slides_are_refused_with_the_vendors_words_or_a_clear_reason(
    stream: bool, said: str, kind: type[HanlinError]
) -> None:
    """A link to slides that do not exist would be worse."""
    skill = msgspec.Raw(b'[{"type":"ppt","mode":"general","template_id":"news_01"}]')
    request = asked(("user", "做幻灯片"), stream=stream, asks={"skill": skill})

    with pytest.raises(kind, match=said) as caught:
        DATA_MINING.check(request, model())

    assert (caught.value.status, caught.value.param) == (400, "skill")
    assert "skill" in DATA_MINING.takes


# --- URLs


def with_urls(*urls: str, parsing: str | None = None, text: str = '提取JSON：[{"产品":"","价格":""}]') -> ChatRequest:
    part: dict[str, Any] = {"type": "doc_url", "doc_url": list(urls)}
    if parsing is not None:
        part["file_parsing_strategy"] = parsing
    content = (TextPart(text), MediaPart("doc_url", msgspec.Raw(msgspec.json.encode(part))))
    return ChatRequest("qwen-doc-turbo", (Message("system", "r"), Message("user", content)))


def web(files: dict[str, str]) -> Fetcher:
    """Return a fetcher of a web that has these files, by path."""

    def serve(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=files[request.url.path].encode())

    async def resolve(_host: str, _port: int) -> list[str]:
        return ["93.184.216.34"]

    return Fetcher(resolve=resolve, transport=httpx2.MockTransport(serve))


async def test_files_behind_urls_are_mined_in_their_order() -> None:
    """Spec §3.5: all products of both manuals, order kept."""
    shelf = MemoryLibrary()
    fetcher = web({"/A.docx": "产品：甲，价格：5", "/B.docx": "产品：乙，价格：6"})

    events = await events_of(
        recipe(),
        with_urls("https://example.com/A.docx", "https://example.com/B.docx"),
        Scholar(),
        shelf,
        fetcher=fetcher,
    )

    assert data(fold(events).choices[0].text) == [{"产品": "甲", "价格": "5"}, {"产品": "乙", "价格": "6"}]
    assert sorted((name, parsing) for _, name, parsing in shelf.taken) == [("A.docx", "auto"), ("B.docx", "auto")]


async def test_all_products_of_two_manuals_come_back_in_order_with_bare_prices() -> None:
    """Spec §3.5, as the documentation asks: a JSON array in a fence, both files whole, the first one first."""
    manuals = {
        f"/{name}.docx": "\n".join(
            f"{'介绍。' * 20}\n产品：{name}-{at}，价格：¥{at + 100}.50，颜色：{'红蓝'[at % 2]}" for at in range(count)
        )
        for name, count in (("甲", 70), ("乙", 45))
    }
    asked_for = "请提取所有产品信息，并整理成一个标准的JSON数组，价格不带货币符号："
    base = Scholar()

    events = await events_of(
        recipe(),
        with_urls(
            *(f"https://example.com{path}" for path in manuals), text=f'{asked_for}[{{"产品":"","价格":"","颜色":""}}]'
        ),
        base,
        MemoryLibrary(),
        fetcher=web(manuals),
    )

    text = fold(events).choices[0].text
    assert (text.splitlines()[0], text.splitlines()[-1]) == ("```json", "```")
    assert data(text) == [
        {"产品": f"{name}-{at}", "价格": f"{at + 100}.50", "颜色": "红蓝"[at % 2]}
        for name, count in (("甲", 70), ("乙", 45))
        for at in range(count)
    ]
    assert len(base.requests) > 2


async def test_ten_urls_are_all_read_in_their_order() -> None:
    """Spec §3.5: as many as a request may name."""
    files = {f"/{at}.txt": f"产品：P{at}，价格：{at}元" for at in range(10)}

    events = await events_of(
        recipe(),
        with_urls(*(f"https://example.com{path}" for path in files)),
        Scholar(),
        MemoryLibrary(),
        fetcher=web(files),
    )

    assert [record["产品"] for record in data(fold(events).choices[0].text)] == [f"P{at}" for at in range(10)]


async def test_the_parsing_strategy_is_passed_on() -> None:
    """Whether images are read is the caller's choice."""
    shelf = MemoryLibrary()

    await events_of(
        recipe(),
        with_urls("https://example.com/A.docx", parsing="text_only"),
        Scholar(),
        shelf,
        fetcher=web({"/A.docx": "产品：甲"}),
    )

    assert [parsing for _, _, parsing in shelf.taken] == ["text_only"]


def test_ten_urls_are_taken_and_the_eleventh_is_refused() -> None:
    """Spec §3.5."""
    urls = [f"https://example.com/{at}" for at in range(11)]

    DATA_MINING.check(with_urls(*urls[:10]), model())
    with pytest.raises(InvalidRequest, match="'doc_url' takes 10 URLs at most, got 11"):
        DATA_MINING.check(with_urls(*urls), model())


def test_an_unknown_parsing_strategy_is_refused_with_its_name() -> None:
    """A word that nobody knows must not be taken for `auto`."""
    with pytest.raises(InvalidRequest, match="file_parsing_strategy"):
        DATA_MINING.check(with_urls("https://example.com/a", parsing="ocr"), model())


async def test_without_a_fetcher_urls_are_refused_with_the_remedy() -> None:
    """Files can always be uploaded."""
    with pytest.raises(UnsupportedHere, match="upload the file"):
        await events_of(recipe(), with_urls("https://example.com/a"), Scholar(), MemoryLibrary())
