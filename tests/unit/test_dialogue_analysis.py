"""Analysis of dialogues: the prompt's own format, the dialogue's own words, and nothing that was never said."""

import json
import random
import re
from typing import Any

import pytest

from hanlin import schemas
from hanlin.errors import AnswerUnfit
from hanlin.recipes.dialogue_analysis import ANALYSIS, first_that_applies
from hanlin.recipes.grounding import Heard, is_quoted, is_said, numbers, unsaid_figures
from hanlin.recipes.output_formats import Rule, dialogue_of, json_format, label_format, missing_word
from hanlin.types import ChatRequest, Message, Sampling, Shape
from tests.desks import SaidBase, asked, events_of, reply_of
from tests.dialogue_corpus import LABELS, Gold, gold

FLASH = "tongyi-xiaomi-analysis-flash"

DIALOGUE = """[1] 客服：您好，请问有什么可以帮您？
[2] 用户：我叫王芳，上周买的洗衣机不转了，订单号是 20261123。
[3] 客服：非常抱歉，我帮您登记维修。
[4] 用户：好的。什么时候能来？
[5] 客服：明天上午。"""

FIELDS = f"""请从下面的对话中提取信息，没有的填“未提及”。
输出 JSON：
{{
  "姓名": "张三",
  "电话": "13800000000",
  "订单号": "123456",
  "紧急程度": "高/中/低",
  "原文依据": "……"
}}

对话：
{DIALOGUE}"""

SATISFACTION = f"""根据规则判断用户的满意度，按“标签#理由”输出。
规则（按顺序，第一条符合的生效）：
1. 不满意：用户投诉、指责或要求赔偿。
2. 满意：用户明确表示感谢。
3. 一般：其他情况；“好的”、“行”不算感谢。
示例：满意#用户说“谢谢”。

{DIALOGUE}"""


def prompt(text: str, **fields: Any) -> ChatRequest:
    return asked(FLASH, Message("user", text), **fields)


def says(*values: Any) -> SaidBase:
    """Return a base that gives these values, one after another."""
    left = list(values)
    return SaidBase(lambda request: json.dumps(left.pop(0), ensure_ascii=False))


def test_the_dialogue_is_told_from_the_task() -> None:
    """Lines `[turn] role：text`, as the vendor advises; what is no such line is the task."""
    found = dialogue_of(SATISFACTION)

    assert found.text == DIALOGUE
    assert found.turns == {1, 2, 3, 4, 5}
    assert "洗衣机" not in found.instructions
    assert "不满意：用户投诉" in found.instructions


@pytest.mark.parametrize(
    ("instructions", "labels", "frame"),
    [
        (SATISFACTION.split("\n[1]")[0], ("不满意", "满意", "一般"), ("", "")),
        ("标签包括：满意、不满意、一般。输出格式：标签#理由", ("满意", "不满意", "一般"), ("", "")),
        ("按【标签】#理由 输出，标签有：A类、B类", ("A类", "B类"), ("【", "】")),
        ("满意#表示感谢\n不满意#表示愤怒", ("满意", "不满意"), ("", "")),
        ("格式：标签#理由", (), ("", "")),
        (
            "1. 甲类：投诉\n2. 乙类：感谢\n3. 输出：标签#理由\n\n要求：\n1. 语气：平和\n2. 长度：十个字",
            ("甲类", "乙类"),
            ("", ""),
        ),
    ],
)
def test_a_label_and_a_reason_are_recognised(instructions: str, labels: Any, frame: Any) -> None:
    """With the labels that the prompt lists, in whatever way it does."""
    found = label_format(instructions)

    assert found is not None
    assert set(found.labels) == set(labels)
    assert found.frame == frame


@pytest.mark.parametrize(
    "text", ["## 标题\n写一段总结", "用 C# 写", "订单 #123", "请总结对话", FIELDS.split("\n[1]")[0]]
)
def test_what_only_looks_like_a_label_is_none(text: str) -> None:
    """Headings, languages and numbers have the same sign."""
    assert label_format(text) is None


def test_an_example_becomes_a_schema() -> None:
    """Every field is there, choices are choices, numbers may be missing, nothing may be added."""
    example = '{"场景": "售前/售后/其他", "次数": 2, "轮次": [1], "人": [{"姓名": "x"}], "已解决": true}'

    found = json_format(f"没有的填“未提及”。输出：{example}", "未提及")

    assert found is not None
    fields = found.schema["properties"]
    assert fields["场景"]["enum"] == ["售前", "售后", "其他", "未提及"]
    assert fields["次数"]["anyOf"] == [{"type": "integer"}, {"type": "string", "enum": ["未提及"]}]
    assert fields["人"]["items"]["required"] == ["姓名"]
    assert set(found.schema["required"]) == set(fields)
    assert (found.lines, found.listed) == (False, False)


@pytest.mark.parametrize("text", ["请总结", '对话：[{"role": "user", "content": "你好"}]', "{}", "[1, 2]"])
def test_what_is_no_example_is_none(text: str) -> None:
    """A dialogue may be JSON as well."""
    assert json_format(text, "未提及") is None


@pytest.mark.parametrize(
    ("text", "word"),
    [("没有提到的字段填“无”", "无"), ("未提及则输出'N/A'。", "N/A"), ("找不到时返回“”", ""), ("照实填写", "未提及")],
)
def test_the_word_for_what_is_missing_is_the_prompts(text: str, word: str) -> None:
    """`未提及` is the habit, not a law."""
    assert missing_word(text) == word


async def test_fields_are_filled_from_the_dialogue_in_the_examples_form() -> None:
    """Over several lines, as the example was; the base is held to the schema and draws the likeliest."""
    value = {
        "姓名": "王芳",
        "电话": "未提及",
        "订单号": "20261123",
        "紧急程度": "中",
        "原文依据": "上周买的洗衣机不转了",
    }
    base = says(value)

    reply = await reply_of(ANALYSIS, prompt(FIELDS), base)

    assert json.loads(reply) == value
    assert reply == json.dumps(value, ensure_ascii=False, indent=2)
    [request] = base.requests
    assert request.shape is not None
    assert (request.sampling.temperature, request.sampling.top_k) == (0.0, 1)


async def test_what_was_never_said_is_asked_again_and_then_missing() -> None:
    """A telephone number that nobody gave must not reach a customer's file."""
    invented = {
        "姓名": "李雷",
        "电话": "13912345678",
        "订单号": "20261123",
        "紧急程度": "高",
        "原文依据": "我要投诉你们",
    }
    base = says(invented, invented)

    reply = await reply_of(ANALYSIS, prompt(FIELDS), base)

    assert json.loads(reply) == {
        "姓名": "未提及",
        "电话": "未提及",
        "订单号": "20261123",
        "紧急程度": "高",
        "原文依据": "未提及",
    }
    again = base.requests[1].messages[-1].text
    assert "13912345678" in again
    assert "我要投诉你们" in again
    assert len(base.requests) == 2


async def test_a_correction_is_taken() -> None:
    """The second answer counts where it is right."""
    wrong = {"姓名": "李雷", "电话": "未提及", "订单号": "未提及", "紧急程度": "低", "原文依据": "未提及"}

    reply = await reply_of(ANALYSIS, prompt(FIELDS), says(wrong, wrong | {"姓名": "王芳"}))

    assert json.loads(reply)["姓名"] == "王芳"


async def test_a_correction_does_not_lose_what_was_right() -> None:
    """Small models that are told of one mistake take everything back, or make the others' mistakes."""
    first = {"姓名": "王芳", "电话": "13912345678", "订单号": "20261123", "紧急程度": "高", "原文依据": "未提及"}
    second = {
        "姓名": "张三",
        "电话": "未提及",
        "订单号": "未提及",
        "紧急程度": "低",
        "原文依据": "上周买的洗衣机不转了",
    }

    reply = json.loads(await reply_of(ANALYSIS, prompt(FIELDS), says(first, second)))

    assert reply == {
        "姓名": "王芳",
        "电话": "未提及",
        "订单号": "20261123",
        "紧急程度": "低",
        "原文依据": "上周买的洗衣机不转了",
    }


async def test_judgements_need_not_be_in_the_dialogue() -> None:
    """`愤怒` is what the user is, not what he says."""
    task = f'提取情绪和诉求类型，输出 {{"情绪": "…", "诉求类型": "…"}}\n{DIALOGUE}'
    value = {"情绪": "愤怒", "诉求类型": "维修"}

    assert json.loads(await reply_of(ANALYSIS, prompt(task), says(value))) == value


async def test_turns_are_those_of_the_dialogue() -> None:
    """Turn 9 of a dialogue of five is made up."""
    task = f'找出报修的轮次，没有的填“未提及”，输出 {{"轮次": [2]}}\n{DIALOGUE}'

    assert json.loads(await reply_of(ANALYSIS, prompt(task), says({"轮次": [2, 9]}, {"轮次": [2, 9]}))) == {
        "轮次": [2, "未提及"]
    }


async def test_a_list_of_objects_is_a_list() -> None:
    """Engines hold answers to objects; what the caller gets is what the example is."""
    task = f'逐条检查，输出 [{{"规则": "…", "结果": "通过/不通过"}}]\n{DIALOGUE}'
    rows = [{"规则": "礼貌用语", "结果": "通过"}]

    assert json.loads(await reply_of(ANALYSIS, prompt(task), says({"items": rows}))) == rows


async def test_a_label_and_its_reason_come_in_one_line() -> None:
    """`标签#理由` and nothing else; the label is one of the rules' own."""
    base = says(
        {"evidence": "好的。什么时候能来？", "label": "一般", "reason": "用户只说“好的。什么时候能来”，\n没有感谢#。"}
    )

    reply = await reply_of(ANALYSIS, prompt(SATISFACTION), base)

    assert reply == "一般#用户只说“好的。什么时候能来”， 没有感谢 。"
    assert base.requests[0].shape is not None
    assert base.requests[0].shape.schema["properties"]["label"]["enum"] == ["不满意", "满意", "一般"]


async def test_a_reason_that_quotes_what_nobody_said_is_replaced() -> None:
    """By the evidence where that was said, after one more try."""
    wrong = {"evidence": "上周买的洗衣机不转了", "label": "不满意", "reason": "用户说“太差劲了你们”"}

    assert await reply_of(ANALYSIS, prompt(SATISFACTION), says(wrong, wrong)) == "不满意#依据“上周买的洗衣机不转了”"


BAD_TEXTS = ["", "不知道", "{}", '{"label": "很满意", "reason": "", "evidence": ""}', "[1,", '{"姓名": 1}']


@pytest.mark.parametrize("text", BAD_TEXTS)
@pytest.mark.parametrize("shapes", [True, False])
@pytest.mark.parametrize("task", [FIELDS, SATISFACTION], ids=["fields", "label"])
async def test_what_is_not_in_the_format_is_an_error_and_not_an_answer(task: str, text: str, shapes: bool) -> None:
    """Conformity is 100 %: a program that parses answers meets none that it cannot."""
    with pytest.raises(AnswerUnfit):
        await reply_of(ANALYSIS, prompt(task), SaidBase(lambda request: text, shapes=shapes))


async def test_a_base_that_cannot_be_held_is_asked_in_words() -> None:
    """And corrected once."""
    answers = ["我想想", '```json\n{"evidence": "好的", "label": "一般", "reason": "没有感谢"}\n```']
    base = SaidBase(lambda request: answers.pop(0), shapes=False)

    assert await reply_of(ANALYSIS, prompt(SATISFACTION), base) == "一般#没有感谢"


async def test_other_prompts_are_answered_as_they_are_with_the_likeliest_tokens() -> None:
    """Streamed as they come; the caller's own sampling counts where there is one."""
    base = SaidBase(lambda request: "用户报修洗衣机。")

    events = await events_of(ANALYSIS, prompt(f"总结对话。\n{DIALOGUE}"), base)
    await events_of(ANALYSIS, prompt("总结", sampling=Sampling(temperature=0.9)), base)
    await events_of(ANALYSIS, prompt(FIELDS, shape=Shape("json_object")), base)

    assert len([event for event in events if event.text]) > 2
    assert [one.sampling.temperature for one in base.requests] == [0.0, 0.9, 0.0]
    assert base.requests[2].shape == Shape("json_object")


# --- what is said


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("杭州市", "杭州天气"),
        ("London", "weather in london?"),
        (3, "三张票"),
        (120, "一百二十块"),
        (7, "seven o'clock"),
        (1234, "共 1,234 元"),
        ("13800000000", "电话 138 0000 0000"),
        (["北京", "上海"], "从北京到上海"),
        ({"city": "西安"}, "去西安"),
        ("Ｈello", "hello there"),
        ("0930", "早上 09:30 见"),
        ("18号", "中山路 18 号"),
        (-18, "调到零下18度"),
        (-5, "set it to -5"),
    ],
)
def test_a_value_is_said_however_it_is_written(value: Any, text: str) -> None:
    """Full width, numerals, spaces and the endings of places make no difference."""
    assert is_said(value, Heard(text))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("北京市", "天气怎么样"),
        (3, "两张票"),
        (True, "true"),
        ("", "任何"),
        ([], "任何"),
        ("20270101", "订单 20261123"),
        ("112", "订单 20261123"),
        ("26号", "订单 20261123"),
        (-5, "5 度"),
        ("。", "。"),
    ],
)
def test_a_value_that_is_not_said_is_not(value: Any, text: str) -> None:
    """Nor is what is empty, or a truth."""
    assert not is_said(value, Heard(text))


@pytest.mark.parametrize(
    ("text", "unsaid"),
    [
        ("1,280 元", []),
        ("138-0000-0000", []),
        ("2026-11-27 到", []),
        ("299.50", []),
        ("大约 12", []),
        ("10-20", []),
        ("1,281 元", ["1,281"]),
        ("112", ["112"]),
        ("2026-11-28 与 700", ["700"]),
        ("139-0000-0001", ["139-0000-0001"]),
    ],
)
def test_figures_that_were_not_said_are_found(text: str, unsaid: list[str]) -> None:
    """However they are grouped; days and other short numbers are not looked for."""
    heard = Heard("共 1280 元，电话 13800000000，2026 年 11 月 27 日，订单 20261123，运费 299.5")

    assert list(unsaid_figures(text, heard)) == unsaid


def test_a_quotation_is_word_for_word() -> None:
    """But for punctuation."""
    assert is_quoted("好的，什么时候能来", Heard(DIALOGUE))
    assert not is_quoted("好的，何时能来", Heard(DIALOGUE))
    assert not is_quoted("……", Heard(DIALOGUE))


def test_numerals_are_numbers() -> None:
    """As far as the languages of the contract write them."""
    assert numbers("三百二十万零五十") >= {3_200_050.0}
    assert numbers("二〇二六年") == {2026.0}
    assert not re.search("inf", str(numbers("9" * 400)))


# --- the checks of the contract


PRO = "tongyi-xiaomi-analysis-pro"
RULES = (Rule("不满意", "1. 不满意：投诉"), Rule("满意", "2. 满意：感谢"), Rule("一般", "3. 一般：其他情况"))


@pytest.mark.parametrize(
    ("applies", "evidence", "counts"),
    [
        ((True, True, True), ("太差了", "谢谢", ""), 0),
        ((False, True, True), ("", "谢谢", ""), 1),
        ((True, True, False), ("我要投诉", "谢谢", ""), 1),
        ((True, False, False), ("我要投诉", "", ""), 2),
        ((False, False, True), ("", "", ""), 2),
        ((False, False, False), ("", "", ""), 2),
        ((True, True, False), ("", "", ""), 2),
        ((True, False, False), ("用户：太差了！", "", ""), 0),
    ],
)
def test_the_first_rule_that_applies_and_shows_it_counts(
    applies: tuple[bool, ...], evidence: tuple[str, ...], counts: int
) -> None:
    """Words that nobody said show nothing; a rule for the rest has nothing to show."""
    verdicts = [{"applies": one, "evidence": words} for one, words in zip(applies, evidence, strict=True)]

    assert first_that_applies(RULES, verdicts, Heard("用户：太差了，唉。客服：抱歉。用户：谢谢")) == counts


def test_no_rule_counts_where_none_applies_and_none_is_for_the_rest() -> None:
    """Then it is up to the base; a rule about what is missing is no rule for the rest."""
    verdicts = [{"applies": False, "evidence": ""}] * 2
    unsolved = (Rule("未解决", "1. 未解决：问题没有解决"), Rule("已解决", "2. 已解决：用户确认"))

    assert first_that_applies(RULES[:2], verdicts, Heard("好的")) is None
    assert first_that_applies(unsolved, verdicts, Heard("好的")) is None
    assert first_that_applies(unsolved, [{"applies": True, "evidence": ""}, verdicts[1]], Heard("好的")) == 0


def test_rules_in_an_order_are_found() -> None:
    """With the whole line of each: what it says about its label decides."""
    found, other = label_format(gold(1)[0].prompt), label_format("标签包括：满意、不满意。\n1. 好评：表扬\n标签#理由")

    assert found is not None
    assert [rule.label for rule in found.rules] == list(LABELS)
    assert [rule.is_about_absence for rule in found.rules] == [False, False, True]
    assert other is not None
    assert other.rules == ()


def judging(one: Gold, *, knows_it: bool, habit: int) -> SaidBase:
    """Return a base that knows the label of a dialogue or does not, and has a habit of writing it.

    Judging rule by rule, it knows which apply; it falls into the trap of the contract and takes `好的` for thanks, with
    words that were never said. What it does not know is the same everywhere.
    """
    guess = LABELS[(LABELS.index(one.label) + 1) % 3]

    def says(request: ChatRequest) -> str:
        label = one.label if knows_it else guess
        if request.shape is None:
            return (f"{label}#有依据", f"满意度：{label}。", f"我认为是“{label}”，因为……", f"```\n{label}#有依据\n```")[
                habit
            ]
        if "rule_1" not in request.shape.schema["properties"]:
            return json.dumps({"evidence": one.evidence, "label": label, "reason": "有依据"}, ensure_ascii=False)
        verdicts = {
            f"rule_{at}": {
                "applies": name == label or (name == "满意" and label == "一般") or name == "一般",
                "evidence": one.evidence if name == label and knows_it else "",
            }
            for at, name in enumerate(LABELS, 1)
        }
        if not knows_it and label in ("不满意", "满意"):
            verdicts[f"rule_{LABELS.index(label) + 1}"]["evidence"] = "您好"
        wrong = "满意" if label == "一般" else label
        return json.dumps({**verdicts, "label": wrong, "reason": "有依据"}, ensure_ascii=False)

    return SaidBase(says)


@pytest.mark.parametrize("name", [FLASH, PRO])
async def test_labels_agree_with_gold_at_least_as_often_as_a_free_prompt(name: str) -> None:
    """Spec §9, two hundred dialogues, of a base that knows three of four: all of these are right, and in the format."""
    draw = random.Random(90)
    known = ours = free = 0
    for one in gold(200):
        knows_it, habit = draw.random() < 0.75, draw.choice((0, 0, 1, 2, 3))
        base = judging(one, knows_it=knows_it, habit=habit)
        request = asked(name, Message("user", one.prompt))
        label, reason = (await reply_of(ANALYSIS, request, base)).split("#")
        assert label in LABELS
        assert reason
        known += knows_it
        ours += label == one.label
        free += (await base.answer(request)).choices[0].text.split("#")[0] == one.label

    assert ours >= known
    assert ours >= free > 0


async def test_every_rule_is_judged_by_itself_for_the_better_name() -> None:
    """One call; the label that its verdicts give counts, not the one that it says in the end."""
    one = next(one for one in gold(50) if one.label == "一般")
    base = judging(one, knows_it=True, habit=0)

    reply = await reply_of(ANALYSIS, asked(PRO, Message("user", one.prompt)), base)

    assert reply == "一般#对话中没有明确的依据"
    [request] = base.requests
    assert request.shape is not None
    assert list(request.shape.schema["properties"]) == ["rule_1", "rule_2", "rule_3", "label", "reason"]
    assert "rule_3：3. 一般：其他情况；“好的”、“行”不算感谢。" in request.messages[0].text


FACTS = {
    "姓名": ("王芳", "李雷", "陈静"),
    "电话": ("13911112222", "15933334444"),
    "订单号": ("20261123", "20260815"),
    "商品": ("洗衣机", "热水器", "蓝牙耳机"),
    "地址": ("中山路 18 号", "人民大街 7 号"),
    "金额": ("299 元", "1,280 元"),
}


@pytest.mark.parametrize("task", ["请提取信息，没有的填“未提及”。", "请填写下面的表，对话中没有的填“未提及”。"])
async def test_fields_that_were_not_said_are_never_invented(task: str) -> None:
    """Spec §9: two hundred dialogues with any of their fields missing, of a base that always has something to write."""
    draw = random.Random(91)
    for _ in range(200):
        said = {name: draw.choice(values) for name, values in FACTS.items() if draw.random() < 0.5}
        invented = {name: draw.choice(values) for name, values in FACTS.items() if name not in said}
        turns = [f"[{number}] 用户：我的{name}是 {value}。" for number, (name, value) in enumerate(said.items(), 2)]
        dialogue = "\n".join(["[1] 客服：您好，请说。", *turns])
        example = json.dumps(dict.fromkeys(FACTS, "……"), ensure_ascii=False)
        values = {name: said.get(name, invented.get(name)) for name in FACTS}

        reply = await reply_of(ANALYSIS, prompt(f"{task}输出 JSON：{example}\n{dialogue}"), says(values, values))

        assert json.loads(reply) == {name: said.get(name, "未提及") for name in FACTS}


def scribbled(draw: random.Random, schema: Any) -> Any:
    """Return a value that a base might write for a schema: mostly of its types, never out of the dialogue."""
    if "anyOf" in schema:
        schema = draw.choice(schema["anyOf"])
    if draw.random() < 0.03:
        return None
    match schema.get("type"):
        case "object":
            return {name: scribbled(draw, part) for name, part in schema["properties"].items()}
        case "array":
            return [scribbled(draw, schema["items"]) for _ in range(draw.randint(0, 3))]
        case "integer":
            return draw.randint(0, 9)
        case "number":
            return draw.choice((0.5, 7, -1.25))
        case "boolean":
            return draw.random() < 0.5
    return draw.choice(
        schema.get("enum", ["", "好的", "“我要退货”", "第 12345 号", "a\nb", "#", '"', "未提及", "x" * 300])
    )


def scribbling(draw: random.Random, schema: Any, *, shapes: bool = True) -> SaidBase:
    return SaidBase(lambda request: json.dumps(scribbled(draw, schema), ensure_ascii=False), shapes=shapes)


EXAMPLES = (
    '{"姓名": "张三", "次数": 2, "比例": 0.5, "已解决": true, "等级": "高/中/低", "原文依据": "……"}',
    '[{"规则": "礼貌", "结果": "通过/不通过", "轮次": [1, 2]}]',
    '{"用户": {"姓名": "张三", "诉求": ["退货"]}, "轮次": 3}',
)


@pytest.mark.parametrize("shapes", [True, False], ids=["shapes", "words"])
async def test_every_answer_is_in_the_format_or_an_error(shapes: bool) -> None:
    """Spec §9: conformity 100 %, whatever a base scribbles into the fields; a program can parse what it gets."""
    draw = random.Random(92)
    answered = 0
    for number in range(200):
        told = f"请提取信息，没有的填“未提及”。输出：{EXAMPLES[number % len(EXAMPLES)]}\n"
        form = json_format(told, "未提及")
        assert form is not None
        try:
            reply = await reply_of(ANALYSIS, prompt(told + DIALOGUE), scribbling(draw, form.schema, shapes=shapes))
        except AnswerUnfit:
            continue
        value = json.loads(reply)
        answered += 1
        assert schemas.problem({"items": value} if form.listed else value, form.schema) is None, reply
        assert ("\n" in reply) == form.lines

    assert answered > 100


async def test_every_label_is_in_its_line_or_an_error() -> None:
    """Spec §9, of `标签#理由`: one line, one of the labels, one reason."""
    draw = random.Random(93)
    answered = 0
    for name in (FLASH, PRO) * 100:
        base = SaidBase(lambda request: json.dumps(scribbled(draw, request.shape.schema), ensure_ascii=False))  # type: ignore[union-attr]  # it is held
        try:
            reply = await reply_of(ANALYSIS, asked(name, Message("user", SATISFACTION)), base)
        except AnswerUnfit:
            continue
        answered += 1
        assert re.fullmatch("(不满意|满意|一般)#[^#\n]+", reply)

    assert answered > 100
