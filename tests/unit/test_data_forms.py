"""What form extracted data has, how it is put together, and which of it stands in its source: the pure pieces."""

from typing import Any

import pytest

from hanlin.recipes.data_mining.asking import classifies, labels_in, several_labels, wants_json
from hanlin.recipes.data_mining.forms import Form, example_in, loose, plain, schema_of
from hanlin.recipes.data_mining.merging import completed, is_missing, merged
from hanlin.recipes.data_mining.verifying import Source, typed, unbacked, without

RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {"品名": {"type": "string"}, "单价": {"type": "string"}},
    "required": ["品名", "单价"],
}
LIST = {"type": "array", "items": RECORD}


@pytest.mark.parametrize(
    ("instruction", "example"),
    [
        ('输出JSON：[{"品名": "", "单价": 0}]', [{"品名": "", "单价": 0}]),
        ('例如 {"a": , "b": []} 即可', {"a": "", "b": []}),
        ('[{"a": "x"}, ...]', [{"a": "x"}]),
        ('先看 [1]，再输出 {"a": {"b": ""}}。', {"a": {"b": ""}}),
        ("提取所有产品", None),
        ("见 [附录] 与 {说明}", None),
    ],
)
def test_an_example_is_read_as_people_write_it(instruction: str, example: Any) -> None:
    """Values left out, dots where more would follow, other brackets around it."""
    assert example_in(instruction) == example


def test_the_schema_of_an_example_has_its_keys_and_types() -> None:
    """Alternatives are a closed list; a schema that is shown is taken as it is."""
    made = schema_of([{"品名": "", "数量": 1, "新": True, "级别": "高|低", "标签": [""]}])

    properties = made["items"]["properties"]
    assert list(properties) == ["品名", "数量", "新", "级别", "标签"]
    assert [part.get("type") for part in properties.values()] == ["string", "integer", "boolean", None, "array"]
    assert properties["级别"] == {"enum": ["高", "低"]}
    shown = {"type": "object", "properties": {"a": {"type": "string"}}}
    assert schema_of(shown) == shown


def test_references_and_optional_fields_become_plain() -> None:
    """pydantic writes both."""
    schema = {
        "$defs": {"P": {"type": "object", "properties": {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}}},
        "type": "object",
        "properties": {"ps": {"type": "array", "items": {"$ref": "#/$defs/P"}}},
    }

    made = plain(schema)

    assert made["properties"]["ps"]["items"]["properties"]["a"] == {"type": "integer", "nullable": True}
    assert Form(schema).records == ("ps", made["properties"]["ps"]["items"])


def test_a_schema_that_refers_to_itself_comes_to_an_end() -> None:
    """A tree is no endless one."""
    tree = {"type": "object", "properties": {"child": {"$ref": "#"}}}

    assert plain(tree)["properties"]["child"]["type"] == "object"


def test_a_schema_that_doubles_and_doubles_comes_to_an_end() -> None:
    """What a caller sends in a kilobyte must not become a billion parts."""
    many = {"type": "object", "properties": {f"p{number}": {"$ref": "#"} for number in range(12)}}

    assert len(str(plain(many))) < 1_000_000


@pytest.mark.parametrize(
    "schema",
    [
        '{"type":"object","properties":{"a":"string"}}',
        '{"type":"object","properties":{"a":{"$ref":"#/x"}}}',
        '{"type":"object","properties":{"a":{"enum":"x|y"}}}',
        '{"type":"object","properties":{"a":{"type":"text","maxItems":"x"}}}',
    ],
)
def test_what_only_looks_like_a_schema_still_names_its_fields(schema: str) -> None:
    """People write schemas by heart; one that is none must not fail the call."""
    form = Form(schema_of(example_in(schema)))

    assert form.plain["properties"] == {"a": {"type": "string"}}
    assert loose(form.plain)["type"] == "object"


def test_a_part_may_lack_everything() -> None:
    """A form that demands a value would have it invented."""
    made = loose(plain(LIST))

    assert made["items"]["properties"]["品名"]["type"] == ["string", "null"]
    assert made["items"]["required"] == ["品名", "单价"]
    assert made["maxItems"] == 40


def test_lists_follow_each_other_and_of_single_values_the_first_counts() -> None:
    """The documents' order."""
    schema = {"type": "object", "properties": {"甲方": {"type": "string"}, "品": LIST}}
    values = [
        {"甲方": None, "品": [{"品名": "a"}]},
        {"甲方": "云杉", "品": [{"品名": "b"}]},
        {"甲方": "铁杉", "品": None},
    ]

    made = merged(values, schema, ["", "", ""])

    assert made == {"甲方": "云杉", "品": [{"品名": "a"}, {"品名": "b"}]}


def test_a_record_in_the_text_that_two_parts_share_is_one() -> None:
    """The fuller one of the two; the same record elsewhere is another one."""
    first = [{"品名": "螺丝", "单价": None}]
    second = [{"品名": "螺丝", "单价": "5元"}, {"品名": "螺母", "单价": "3元"}]

    assert merged([first, second], LIST, ["", "品名：螺丝"]) == second
    assert len(merged([first, second], LIST, ["", "其他"])) == 3
    assert len(merged([[second[0]], [second[0]]], LIST, ["", ""])) == 2


def test_what_was_not_found_is_empty_or_null_and_a_demand_that_fails_is_missing() -> None:
    """A number has no empty form: its record is left out where the schema is the caller's."""
    schema = plain(
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"a": {"type": "string"}, "n": {"type": "number"}},
                "required": ["a", "n"],
            },
        }
    )

    assert completed([{"a": None, "n": 1}, {"a": "x", "n": None}], schema, strict=True) == [{"a": "", "n": 1}]
    assert completed([{"a": "x", "n": None}], schema, strict=False) == [{"a": "x", "n": None}]
    assert is_missing(completed(None, {"type": "number"}, strict=True))


@pytest.mark.parametrize(
    ("value", "held"),
    [
        ("云杉公司", True),
        ("云 杉 公 司", True),
        ("铁杉公司", False),
        ("12345.6", True),
        (12345.6, True),
        (1.23456, True),  # in ten thousands
        (99, False),
        ("2024/3/5", True),
        ("2024/3/6", False),
        (True, True),
        ("", True),
        (None, True),
    ],
)
def test_a_value_stands_in_its_source_or_follows_from_it(value: Any, held: bool) -> None:
    """Spec §3.4: a documented transformation is none of content."""
    assert Source("甲方：云杉公司，金额 ¥12,345.60，签于2024年3月5日").holds(value) == held


def test_told_fields_are_held_by_their_numbers_alone() -> None:
    """A summary has words of its own; its numbers are the document's."""
    source = Source("2024年销售额为300万元")

    assert source.holds("去年共卖出300万", "摘要")
    assert not source.holds("去年共卖出400万", "摘要")


def test_unbacked_values_are_found_by_their_place_and_taken_out() -> None:
    """Labels of a closed list are judgements, and stay."""
    schema = {"type": "array", "items": {"properties": {"a": {"type": "string"}, "b": {"enum": ["高", "低"]}}}}
    value = [{"a": "甲", "b": "高"}, {"a": "丙", "b": "低"}]

    bad = list(unbacked(value, schema, Source("甲乙")))

    assert bad == [((1, "a"), "丙")]
    assert without(value, {path for path, _ in bad}) == [{"a": "甲", "b": "高"}, {"a": None, "b": "低"}]


@pytest.mark.parametrize(
    ("cell", "kind", "value"),
    [
        ("¥1,200", "number", 1200),
        ("3.5", "number", 3.5),
        ("7 件", "integer", 7),
        ("7.5", "integer", None),
        ("1.5万元", "number", 15000),
        ("3亿", "integer", 300_000_000),
        ("是", "boolean", True),
        ("?", "boolean", None),
        ("x", "number", None),
    ],
)
def test_a_cell_becomes_what_its_field_is(cell: str, kind: str, value: Any) -> None:
    """Or nothing, where it cannot be that."""
    assert typed(cell, {"type": kind}) == value


@pytest.mark.parametrize(
    ("instruction", "labels"),
    [
        ("类别：合同、简历、发票。只回答类别。", ("合同", "简历", "发票")),
        ("标签包括：\n1. 好评：满意的\n2. 差评：不满的\n", ("好评", "差评")),
        ('Labels: ["spam", "ham"]', ("spam", "ham")),
        ("categories (sports, news or finance)", ("sports", "news", "finance")),
        ("请分类", ()),
    ],
)
def test_labels_are_those_that_are_listed(instruction: str, labels: tuple[str, ...]) -> None:
    """In whatever way people list them."""
    assert labels_in(instruction) == labels


def test_what_is_asked_for_shows_in_the_words() -> None:
    """Data, labels, several labels, or none of it."""
    assert wants_json("以JSON返回")
    assert wants_json("提取合同中的所有字段")
    assert not wants_json("这份文件讲了什么？")
    assert classifies("属于哪个类别")
    assert several_labels("可多选")
    assert not several_labels("选择一个")
