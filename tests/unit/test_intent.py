"""The intent model: whatever its base says, a reply is within the grammar and within what was offered."""

import json
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

import jsonschema_rs
import pytest

from hanlin.errors import AnswerUnfit, ContextLengthExceeded, InvalidRequest
from hanlin.recipes.intent import INTENT, MOST_OFFERED, NO_TOOL
from hanlin.recipes.intent_asks import Mode, wish_of
from hanlin.types import ChatRequest, Message, Sampling, Tool, ToolChoice, fold
from tests.desks import SaidBase, asked, events_of, reply_of
from tests.intent_corpus import MORE_TOOLS, TAGS, TOOLS, Spoken, calls_in, is_right, system_of, utterances

NAME = "tongyi-intent-detect-v3"
UTTERANCES = utterances()
GRAMMAR = {
    "intent": re.compile(
        r"<tags>\n\[[^\[\]\n<>]+\]\n</tags><tool_call>\n(?P<calls>\[.*\])\n</tool_call><content>\n(?P<content>.*)\n</content>",
        re.DOTALL,
    ),
    "normal": re.compile(r"(<tool_call>\n(\{[^\n]*\})\n</tool_call>\n?)+"),
}


def messages_of(one: Spoken, tools: list[Any] = TOOLS) -> tuple[Message, ...]:
    return tuple(Message(row["role"], row["content"]) for row in one.messages(tools))


def outside(one: Spoken, reply: str) -> str:
    """Return what of a reply is not within the grammar, or not within what was offered; "" where all is."""
    if one.mode == "tag":
        return "" if reply in TAGS else f"no tag: {reply}"
    has_call = "<tool_call>" in reply
    if one.mode == "intent":
        found = GRAMMAR["intent"].fullmatch(reply)
        if found is None:
            return f"no reply in INTENT_MODE: {reply}"
        if bool(json.loads(found["calls"])) == bool(found["content"]):
            return f"a call or a content, not both: {reply}"
        has_call = True
    if has_call and one.mode == "normal" and not GRAMMAR["normal"].fullmatch(reply):
        return f"no call in NORMAL_MODE: {reply}"
    if not has_call and (not reply.strip() or re.search("</?(tags|content|tool_call)>", reply)):
        return f"no text: {reply}"
    tools = {tool["name"]: tool["parameters"] for tool in TOOLS}
    for call in calls_in(reply) if has_call else []:
        if set(call) != {"name", "arguments"} or call["name"] not in tools:
            return f"no call of what was offered: {call}"
        if not jsonschema_rs.validator_for(tools[call["name"]] or {}).is_valid(call["arguments"]):
            return f"arguments that do not fit: {call}"
    return ""


def knows(one: Spoken) -> Callable[[ChatRequest], str]:
    """Return a base that understands an utterance as it was meant."""

    def says(request: ChatRequest) -> str:
        wanted = request.shape.schema["properties"] if request.shape is not None else {}
        if "chosen" in wanted:
            offered = wanted["chosen"]["items"]["enum"]
            meant = one.tag or (one.calls[0]["name"] if one.calls else NO_TOOL)
            if one.asks:
                meant = next(name for name in offered if name == asked_for(one.text))
            return json.dumps({"chosen": [meant]})
        if "calls" in wanted:
            return json.dumps({"calls": [call["arguments"] for call in one.calls] or [{}]}, ensure_ascii=False)
        if wanted:
            return json.dumps(dict.fromkeys(wanted, "打开"))
        return "好的，请问是哪一个呢？" if one.text[-1] >= "\u3400" else "Sure, which one?"

    return says


def asked_for(text: str) -> str:
    """Return the tool that an utterance without its argument is about."""
    about = {"天气": "get_current_weather", "歌": "play_music", "电话": "call_contact", "股价": "get_stock_price"}
    about |= {"火车票": "book_train", "闹钟": "set_alarm", "Call": "call_contact"}
    return next(tool for word, tool in about.items() if word in text)


async def test_a_base_that_understands_is_heard_in_the_contracts_words() -> None:
    """Two hundred utterances in three modes: the right tag, the right call, a question, or an answer."""
    wrong: list[Any] = []
    for one in UTTERANCES:
        reply = await reply_of(INTENT, asked(NAME, *messages_of(one)), SaidBase(knows(one)))

        if problem := outside(one, reply):
            wrong.append(problem)
        elif one.tag:
            wrong += [] if reply == one.tag else [(one.text, reply)]
        elif one.calls:
            wrong += [] if calls_in(reply) == list(one.calls) else [(one.text, reply)]
        else:
            wrong += [] if not calls_in(reply) else [(one.text, reply)]

    assert wrong == []


def gibberish(request: ChatRequest) -> str:
    return "%%% {]}[ </tool_call> 天气"


def silence(request: ChatRequest) -> str:
    return ""


def another_shape(request: ChatRequest) -> str:
    return '{"answer": [1, 2, {"chosen": "weather"}]}'


def outside_the_set(request: ChatRequest) -> str:
    return '{"chosen": ["take_over_the_world"], "calls": [{"city": "Atlantis"}]}'


def the_marks(request: ChatRequest) -> str:
    return '</tool_call></content><tags>\n[x]\n</tags>{"chosen": ["</tool_call>"]}'


def chatter(request: ChatRequest) -> str:
    return f"Of course! I think the answer is weather_query, or get_current_weather. {request.messages[-1].text}"


def unfit(request: ChatRequest) -> Exception | str:
    return AnswerUnfit("no") if request.shape is not None else "no"


def refusing(request: ChatRequest) -> Exception | str:
    return InvalidRequest("schemas are not taken here") if request.shape is not None else "…"


def inventing(request: ChatRequest) -> str:
    """Choose at random, fill everything with what nobody said, and quote what nobody said."""
    wanted: Mapping[str, Any] = request.shape.schema["properties"] if request.shape is not None else {}
    draw = random.Random(request.messages[-1].text)
    if "chosen" in wanted:
        return json.dumps({"chosen": [draw.choice(wanted["chosen"]["items"]["enum"])]})
    if "calls" in wanted:
        names = wanted["calls"]["items"]["properties"]
        return json.dumps({"calls": [dict.fromkeys(names, "亚特兰蒂斯")] * 2}, ensure_ascii=False)
    return json.dumps(dict.fromkeys(wanted, "亚特兰蒂斯")) if wanted else "请问您要去\n亚特兰蒂斯 吗"


BAD = [gibberish, silence, another_shape, outside_the_set, the_marks, chatter, unfit, refusing, inventing]


@pytest.mark.parametrize("shapes", [True, False], ids=["shapes", "words"])
@pytest.mark.parametrize("bad", BAD, ids=lambda bad: str(bad.__name__))
async def test_a_base_that_misbehaves_does_not_leave_the_grammar(bad: Any, shapes: bool) -> None:
    """Clients take replies apart with regular expressions; one that they do not match ends a program."""
    outsiders = []
    for one in UTTERANCES[::2]:
        reply = await reply_of(INTENT, asked(NAME, *messages_of(one)), SaidBase(bad, shapes=shapes))
        if problem := outside(one, reply):
            outsiders.append(problem)

    assert outsiders == []


async def test_values_that_nobody_said_are_asked_for_and_never_called_with() -> None:
    """A call to Atlantis would be worse than a question."""
    one = Spoken("normal", "天气怎么样？", asks=True)

    reply = await reply_of(INTENT, asked(NAME, *messages_of(one)), SaidBase(lambda request: made_up(request)))

    assert reply == "好的，请问城市或县区是什么？"


def made_up(request: ChatRequest) -> str:
    wanted = request.shape.schema["properties"] if request.shape is not None else {}
    if "chosen" in wanted:
        return '{"chosen": ["get_current_weather"]}'
    if "calls" in wanted:
        return '{"calls": [{"location": "北京市"}]}'
    return '{"location": "天气"}' if wanted else "I will look it up."


async def test_a_value_in_other_words_counts_when_the_user_said_something_for_it() -> None:
    """`Hangzhou` is 杭州: the user's own words are quoted for it."""

    def says(request: ChatRequest) -> str:
        wanted = request.shape.schema["properties"] if request.shape is not None else {}
        if "chosen" in wanted:
            return '{"chosen": ["get_current_weather"]}'
        return '{"calls": [{"location": "杭州市"}]}' if "calls" in wanted else '{"location": "Hangzhou"}'

    one = Spoken("normal", "How is the weather in Hangzhou?")

    reply = await reply_of(INTENT, asked(NAME, *messages_of(one)), SaidBase(says))

    assert reply == '<tool_call>\n{"name":"get_current_weather","arguments":{"location":"杭州市"}}\n</tool_call>'


async def test_what_is_missing_is_asked_first_and_called_with_second() -> None:
    """Spec §4.1, multi-turn: the client appends our own text and the user's reply."""
    base = SaidBase(lambda request: conversation(request))
    first = (Message("system", system_of("intent")), Message("user", "查一下天气"))

    question = await reply_of(INTENT, asked(NAME, *first), base)
    second = (*first, Message("assistant", question), Message("user", "杭州"))
    call = await reply_of(INTENT, asked(NAME, *second), base)

    assert question == (
        "<tags>\n[get current weather]\n</tags><tool_call>\n[]\n</tool_call>"
        "<content>\n好的，请问您想查询哪个城市的天气呢？\n</content>"
    )
    assert call == (
        "<tags>\n[function call, json response]\n</tags><tool_call>\n"
        '[{"name":"get_current_weather","arguments":{"location":"杭州"}}]\n</tool_call><content>\n\n</content>'
    )


def required_of(tool: Any) -> dict[str, Any]:
    parameters = tool["parameters"] or {"properties": {}, "required": []}
    return {name: parameters["properties"][name] for name in parameters["required"]}


def conversation(request: ChatRequest) -> str:
    wanted = request.shape.schema["properties"] if request.shape is not None else {}
    said = any("杭州" in message.text for message in request.messages if message.role == "user")
    if "chosen" in wanted:
        return '{"chosen": ["get_current_weather"]}'
    if "calls" in wanted:
        return json.dumps({"calls": [{"location": "杭州" if said else None}]})
    return "好的，请问您想查询哪个城市的天气呢？"


MISSING = [tool for tool in TOOLS if any("default" not in part for part in required_of(tool).values())]


@pytest.mark.parametrize("mode", ["intent", "normal"])
@pytest.mark.parametrize("tool", MISSING, ids=lambda tool: str(tool["name"]))
async def test_every_tool_asks_for_what_it_needs_and_then_is_called(tool: Any, mode: Any) -> None:
    """Spec §4.3: missing-slot dialogues ask first and call second, whatever the base makes up meanwhile."""
    needed = {name: part for name, part in required_of(tool).items() if "default" not in part}
    values = {name: part.get("enum", [f"甲{name}"])[0] for name, part in needed.items()}

    def says(request: ChatRequest) -> str:
        wanted = request.shape.schema["properties"] if request.shape is not None else {}
        said = any("甲" in message.text for message in request.messages if message.role == "user")
        if "chosen" in wanted:
            return json.dumps({"chosen": [tool["name"]]})
        if "calls" in wanted:
            return json.dumps({"calls": [values if said else dict.fromkeys(values, "亚特兰蒂斯")]}, ensure_ascii=False)
        return json.dumps(dict.fromkeys(wanted, "甲" if said else "")) if wanted else "请问是什么？"

    first = (Message("system", system_of(mode)), Message("user", "帮个忙"))
    question = await reply_of(INTENT, asked(NAME, *first), SaidBase(says))
    answer = Message("user", "，".join(map(str, values.values())) + "，甲")
    call = await reply_of(INTENT, asked(NAME, *first, Message("assistant", question), answer), SaidBase(says))

    assert "请问是什么？" in question
    assert calls_in(question) == []
    [made] = calls_in(call)
    assert made["name"] == tool["name"]
    assert values.items() <= made["arguments"].items()
    assert outside(Spoken(mode, ""), call) == ""


def half_knowing(one: Spoken, knows_it: bool, habit: int) -> Callable[[ChatRequest], str]:
    """Return a base that knows what an utterance means or does not, and has a habit of writing it.

    Asked with the caller's own prompt, it writes its answer in one of four ways, of which only the first is what the
    prompt wants: models explain, put fences around, and leave out marks.
    """

    def says(request: ChatRequest) -> str:
        if request.shape is not None:
            return knows(one)(request) if knows_it else inventing(request)
        if "Ask the user" in request.messages[0].text or "helpful assistant. Answer in" in request.messages[0].text:
            return knows(one)(request)
        calls = json.dumps(list(one.calls) if one.mode == "intent" else (one.calls or ({},))[0], ensure_ascii=False)
        meant = one.tag or (f"<tool_call>\n{calls}\n</tool_call>" if one.calls else "请问是哪一个？")
        bare = (meant if knows_it else "我不知道").strip()
        return (bare, f"标签是 {bare}。", f"```\n{bare}\n```", bare.replace("<tool_call>", "").upper())[habit]

    return says


async def test_it_is_right_at_least_as_often_as_its_base_with_a_free_prompt() -> None:
    """Spec §4.3, of a base that knows three of four: nothing of that is lost, nor are its habits the caller's."""
    draw = random.Random(43)
    known = ours = free = 0
    for one in UTTERANCES:
        knows_it, habit = draw.random() < 0.75, draw.choice((0, 0, 0, 1, 2, 3))
        base = SaidBase(half_knowing(one, knows_it, habit))
        known += knows_it
        ours += is_right(one, await reply_of(INTENT, asked(NAME, *messages_of(one)), base))
        free += is_right(one, (await base.answer(asked(NAME, *messages_of(one)))).choices[0].text)

    assert ours >= known
    assert ours >= free
    assert free > 0


async def test_thirty_tools_are_as_good_as_ten() -> None:
    """Spec §4.3, of a base that understands: what is chosen is among what it is shown, and no call is mixed up."""
    wrong: dict[int, list[str]] = {}
    for tools in (TOOLS, TOOLS + MORE_TOOLS):
        spoken = [one for one in UTTERANCES if one.mode != "tag"]
        replies = [
            await reply_of(INTENT, asked(NAME, *messages_of(one, tools)), SaidBase(knows(one))) for one in spoken
        ]
        wrong[len(tools)] = [
            one.text
            for one, reply in zip(spoken, replies, strict=True)
            if not is_right(one, reply) or outside(one, reply)
        ]

    assert wrong == {10: [], 30: []}


async def test_no_more_is_asked_of_the_base_than_calls_are_made() -> None:
    """The same call twice is one, and five are enough."""

    def says(request: ChatRequest) -> str:
        wanted = request.shape.schema["properties"] if request.shape is not None else {}
        if "chosen" in wanted:
            return '{"chosen": ["get_current_weather"]}'
        if "calls" in wanted:
            return json.dumps({"calls": [{"location": "Paris"}] * 4 + [{"location": "杭州"}]})
        return '{"location": "巴黎"}'

    base = SaidBase(says)

    reply = await reply_of(INTENT, asked(NAME, *messages_of(Spoken("normal", "巴黎和杭州的天气"))), base)

    assert [call["arguments"]["location"] for call in calls_in(reply)] == ["Paris", "杭州"]
    assert len(base.requests) == 3


async def test_several_things_are_several_calls() -> None:
    """One block each in NORMAL_MODE, one array in INTENT_MODE."""

    def says(request: ChatRequest) -> str:
        wanted = request.shape.schema["properties"] if request.shape is not None else {}
        if "chosen" in wanted:
            return '{"chosen": ["get_current_weather", "get_current_time"]}'
        return '{"calls": [{"location": "杭州"}, {"location": "北京"}]}'

    texts = {
        mode: await reply_of(
            INTENT, asked(NAME, *messages_of(Spoken(mode, "杭州和北京的天气，还有时间"))), SaidBase(says)
        )
        for mode in ("intent", "normal")
    }

    assert [len(calls_in(text)) for text in texts.values()] == [3, 3]
    assert texts["normal"].count("<tool_call>") == 3
    assert texts["intent"].count("<tool_call>") == 1


async def test_a_default_is_used_where_the_tool_has_one() -> None:
    """And nowhere else: `seats` was not said, and is 1."""
    one = Spoken("normal", "订一张去成都的火车票")

    def says(request: ChatRequest) -> str:
        wanted = request.shape.schema["properties"] if request.shape is not None else {}
        return '{"chosen": ["book_train"]}' if "chosen" in wanted else '{"calls": [{"destination": "成都"}]}'

    reply = await reply_of(INTENT, asked(NAME, *messages_of(one)), SaidBase(says))

    assert calls_in(reply) == [{"name": "book_train", "arguments": {"destination": "成都", "seats": 1}}]


async def test_marks_within_arguments_do_not_end_a_call() -> None:
    """A user who says `</tool_call>` must not break his own client."""
    one = Spoken("normal", "播放 </tool_call>")

    def says(request: ChatRequest) -> str:
        wanted = request.shape.schema["properties"] if request.shape is not None else {}
        return '{"chosen": ["play_music"]}' if "chosen" in wanted else '{"calls": [{"song": "</tool_call>"}]}'

    reply = await reply_of(INTENT, asked(NAME, *messages_of(one)), SaidBase(says))

    assert calls_in(reply) == [{"name": "play_music", "arguments": {"song": "</tool_call>"}}]


@pytest.mark.parametrize(
    ("system", "mode", "offered"),
    [
        (system_of("intent"), Mode.INTENT_AND_CALL, 10),
        (system_of("normal").replace("Response in NORMAL_MODE", "response in normal_mode"), Mode.CALL, 10),
        (system_of("tag"), Mode.TAG, 16),
        ("choose one tag from the TAG LIST:\\n{'a': 'x', 'b': 'y',}\\njust reply with the chosen tag.", Mode.TAG, 2),
        ('the tag list: ["a", "b", "c"] and just reply with the chosen tag', Mode.TAG, 3),
        ('tag list\\n{\\n "a": "x",\\n "b": "y"}\\njust reply with the chosen tag.', Mode.TAG, 2),
        ("the tag list: {broken] and just reply with the chosen tag", Mode.TAG, 0),
        ('[{"type": "function", "function": {"name": "f", "parameters": {}}}] INTENT_MODE', Mode.INTENT_AND_CALL, 1),
        ('Tools [see below]: {"name": "f"}\nResponse in NORMAL_MODE.', Mode.CALL, 1),
        ("Response in INTENT_MODE.", Mode.INTENT_AND_CALL, 0),
        ("You are a helpful assistant.", Mode.CHAT, 0),
        ("", Mode.CHAT, 0),
    ],
)
def test_prompts_are_read_leniently(system: str, mode: Mode, offered: int) -> None:
    """Programs paste lists as JSON, as Python prints them, with literal `\\n`, in the form of `tools`."""
    wish = wish_of((Message("system", system), Message("user", "你好")))

    assert (wish.mode, len(wish.tools) + len(wish.tags)) == (mode, offered)


async def test_lists_that_cannot_be_read_are_left_to_the_base() -> None:
    """With the prompt as it is; in INTENT_MODE its words still come in the grammar."""
    broken = (Message("system", "Tools: [{]\nResponse in INTENT_MODE."), Message("user", "杭州天气"))
    base = SaidBase(lambda request: "晴。")

    reply = await reply_of(INTENT, asked(NAME, *broken), base)

    assert outside(Spoken("intent", ""), reply) == ""
    assert "晴。" in reply
    assert base.requests[0].messages == broken


async def test_other_prompts_are_answered_as_by_any_model() -> None:
    """The vendor does not say what becomes of them; a program that chats goes on."""
    base = SaidBase(lambda request: "你好！")
    request = asked(NAME, Message("user", "你好"), sampling=Sampling(temperature=0.3))

    result = fold(await events_of(INTENT, request, base))

    assert result.choices[0].text == "你好！"
    assert base.requests == [request]


def test_tools_in_the_body_are_refused() -> None:
    """Its tools stand in the prompt; these would be ignored."""
    request = asked(NAME, Message("user", "你好"), tools=(Tool("f"),))

    with pytest.raises(InvalidRequest, match=r"^The tool call is not supported\.$"):
        INTENT.check(request, None)  # type: ignore[arg-type]  # it does not matter whose
    INTENT.check(request.changed(tool_choice=ToolChoice("none")), None)  # type: ignore[arg-type]


async def test_prompts_beyond_the_models_own_limit_are_refused() -> None:
    """8,192 tokens, whatever the base could read."""
    with pytest.raises(ContextLengthExceeded, match=r"\[1, 8192\]"):
        await reply_of(INTENT, asked(NAME, Message("user", "字" * 8190)), SaidBase(silence))


async def test_limits_and_stop_texts_of_the_caller_hold() -> None:
    """Tokens of what he reads, not of what was thought on the way; a token of this base is a character."""
    one = Spoken("tag", "今天会下雨吗", tag="weather_query")

    def answer(**sampling: Any) -> Any:
        request = asked(NAME, *messages_of(one), sampling=Sampling(**sampling))
        return events_of(INTENT, request, SaidBase(knows(one)))

    cut, stopped = fold(await answer(max_tokens=7)), fold(await answer(stop=("_q",)))

    assert (cut.choices[0].text, cut.choices[0].finish_reason, cut.usage.completion) == ("weather", "length", 7)
    assert (stopped.choices[0].text, stopped.choices[0].finish_reason) == ("weather", "stop")


@pytest.mark.parametrize("vectors", [True, False])
async def test_of_many_tags_the_likeliest_are_shown(vectors: bool) -> None:
    """By their vectors where something makes them, else by their words; the right one is among them."""
    tags = {f"tag_{number}": f"第{number}类：无关" for number in range(200)} | {"weather_query": "询问天气"}
    messages = (Message("system", system_of("tag", tags=tags)), Message("user", "明天天气好吗"))
    shown: list[list[str]] = []

    def says(request: ChatRequest) -> str:
        assert request.shape is not None
        shown.append(request.shape.schema["properties"]["chosen"]["items"]["enum"])
        return json.dumps({"chosen": [shown[-1][-1]]})

    def vector(text: str, _purpose: str) -> list[float]:
        return [1.0, 0.0] if "天气" in text else [0.0, 1.0]

    reply = await reply_of(INTENT, asked(NAME, *messages), SaidBase(says, vectors=vector if vectors else None))

    assert len(shown[0]) == MOST_OFFERED
    assert reply == "weather_query"


async def test_a_single_tag_needs_no_model() -> None:
    """Nothing is to be decided."""
    base = SaidBase(silence)
    messages = (Message("system", system_of("tag", tags={"only": "all there is"})), Message("user", "你好"))

    assert await reply_of(INTENT, asked(NAME, *messages), base) == "only"
    assert base.requests == []
