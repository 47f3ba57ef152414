"""Typed answers through the official Python SDK: `.parse()`, its streamed form, strict tools, JSON and vectors."""

import json
from typing import Any, Literal

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from hanlin.testing import FakeEngine, Rule
from tests.service import ask, ask_streamed

SENTENCE = "请用 JSON 回答：李娜买了 3 件商品，用微信付款。"
QUESTION: list[Any] = [{"role": "user", "content": SENTENCE}]


class Line(BaseModel):
    """One article of an order."""

    name: str
    quantity: int


class Order(BaseModel):
    """An order as a shop keeps it: nested, with a choice, a list, and what may be missing."""

    customer: str
    payment: Literal["支付宝", "微信"]
    lines: list[Line]
    note: str | None


ORDER = Order(customer="李娜", payment="微信", lines=[Line(name="雨伞", quantity=3)], note=None)


@pytest.fixture(params=["prompted", "modelstudio", "openai"])
def manner(request: pytest.FixtureRequest) -> str:
    """Plain OpenAI servers have tools and schemas as well."""
    manner: str = request.param
    return manner


def test_parse_returns_an_object(client: OpenAI, engine: FakeEngine) -> None:
    """The schema is pydantic's, with `$defs` and a nullable union; what comes back has been validated."""
    engine.rules([Rule(text=ORDER.model_dump_json())])

    completion = client.chat.completions.parse(model="qwen-plus", messages=QUESTION, response_format=Order)

    assert completion.choices[0].message.parsed == ORDER


def test_parse_gets_what_fits_from_an_engine_that_is_held_to_the_schema(client: OpenAI, engine: FakeEngine) -> None:
    """The schema must reach the engine in a form that it understands."""
    engine.rules([Rule(smart=True)])

    completion = client.chat.completions.parse(model="qwen-plus", messages=QUESTION, response_format=Order)

    order = completion.choices[0].message.parsed
    assert order is not None
    assert order.payment == "微信"


async def test_parse_works_asynchronously(async_client: AsyncOpenAI, engine: FakeEngine) -> None:
    """The other client has other code."""
    engine.rules([Rule(text=ORDER.model_dump_json())])

    completion = await async_client.chat.completions.parse(model="qwen-plus", messages=QUESTION, response_format=Order)

    assert completion.choices[0].message.parsed == ORDER


def test_a_streamed_object_is_parsed_at_the_end(client: OpenAI, engine: FakeEngine) -> None:
    """Partial objects on the way, the whole one last."""
    engine.rules([Rule(text=ORDER.model_dump_json(), chunk_tokens=3, chunk_delay_s=0.01)])

    with client.chat.completions.stream(model="qwen-plus", messages=QUESTION, response_format=Order) as stream:
        snapshots = [event.parsed for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()

    assert len(snapshots) > 3
    assert final.choices[0].message.parsed == ORDER


def test_a_cut_answer_is_not_parsed(client: OpenAI, engine: FakeEngine) -> None:
    """`length` is what the helper raises on; half an object must never pass for one."""
    engine.rules([Rule(text=ORDER.model_dump_json())])

    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(model="qwen-plus", messages=QUESTION, response_format=Order, max_tokens=5)


@pytest.mark.parametrize("named", [False, True], ids=["auto", "named"])
def test_arguments_of_a_strict_tool_are_parsed(client: OpenAI, engine: FakeEngine, named: bool) -> None:
    """`pydantic_function_tool` writes a strict schema, and the helper builds the object from the arguments."""
    engine.rules([Rule(smart=True)])
    tool = openai.pydantic_function_tool(Order, name="save_order", description="记录一份订单（order）")
    choice: Any = {"type": "function", "function": {"name": "save_order"}} if named else "auto"

    completion = client.chat.completions.parse(
        model="qwen-plus",
        messages=[{"role": "user", "content": "save_order：李娜买了 3 件商品，用微信付款。"}],
        tools=[tool],
        tool_choice=choice,
    )

    calls: Any = completion.choices[0].message.tool_calls
    [call] = calls
    assert isinstance(call.function.parsed_arguments, Order)
    assert call.function.parsed_arguments.payment == "微信"


def test_streamed_arguments_of_a_strict_tool_are_parsed(client: OpenAI, engine: FakeEngine) -> None:
    """The helper parses them again with every fragment."""
    engine.rules([Rule(smart=True)])
    tool = openai.pydantic_function_tool(Order, name="save_order", description="记录一份订单（order）")

    with client.chat.completions.stream(
        model="qwen-plus",
        messages=[{"role": "user", "content": "save_order：李娜买了 3 件商品，用微信付款。"}],
        tools=[tool],
        tool_choice={"type": "function", "function": {"name": "save_order"}},
    ) as stream:
        message = stream.get_final_completion().choices[0].message

    calls: Any = message.tool_calls
    [call] = calls
    assert isinstance(call.function.parsed_arguments, Order)


@pytest.mark.parametrize("stream", [False, True])
def test_a_json_object_is_json(client: OpenAI, engine: FakeEngine, stream: bool) -> None:
    """No schema, but an object (spec/chat.md §8.1)."""
    engine.rules([Rule(text='{"customer": "李娜"}')])
    shape: Any = {"type": "json_object"}

    if stream:
        chunks = ask_streamed(client, SENTENCE, response_format=shape)
        content = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        content = ask(client, SENTENCE, response_format=shape).choices[0].message.content or ""

    assert json.loads(content) == {"customer": "李娜"}


def test_a_json_object_that_no_message_speaks_of_is_refused(client: OpenAI) -> None:
    """The vendor wants the word itself (§8.1)."""
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, "你是谁？", response_format={"type": "json_object"})

    assert "'messages' must contain the word 'json' in some form" in caught.value.message


def test_a_schema_that_cannot_be_held_is_refused_by_its_place(client: OpenAI, engine: FakeEngine) -> None:
    """Better no answer than one that was promised to fit."""
    shape: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}

    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, SENTENCE, response_format=shape)

    assert (caught.value.param or "").startswith("response_format")
    assert engine.requests() == []


@pytest.mark.parametrize("manner", ["modelstudio"], indirect=True)
def test_texts_become_vectors(client: OpenAI, engine: FakeEngine) -> None:
    """The SDK asks for base64 unless told otherwise, and reads floats out of it."""
    answer = client.embeddings.create(model="text-embedding-v4", input=["春天", "夏天"], dimensions=256)

    assert [len(row.embedding) for row in answer.data] == [256, 256]
    assert [row.index for row in answer.data] == [0, 1]
    assert answer.usage.total_tokens > 0
