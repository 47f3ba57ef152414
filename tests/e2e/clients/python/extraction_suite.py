"""Typed objects out of Chinese sentences, as `instructor` and `pydantic-ai` ask for them: no second tries."""

from collections.abc import Iterator
from typing import Any, Literal, get_args

import instructor  # type: ignore[import-not-found]
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, Field
from pydantic_ai import Agent, NativeOutput, PromptedOutput, ToolOutput  # type: ignore[import-not-found]
from pydantic_ai.models.openai import OpenAIChatModel  # type: ignore[import-not-found]
from pydantic_ai.profiles.openai import OpenAIModelProfile  # type: ignore[import-not-found]
from pydantic_ai.providers.alibaba import AlibabaProvider  # type: ignore[import-not-found]

from tests.e2e.clients.python.setup import BASE_URL, DRILLS, ENGINE_URL, KEY, MODEL, answers

Payment = Literal["支付宝", "微信", "银行卡"]


class Order(BaseModel):
    """一份订单。"""

    customer: str = Field(description="顾客姓名")
    quantity: int = Field(description="总件数", ge=1)
    payment: Payment = Field(description="支付方式")
    items: list[str] = Field(description="所购商品的名称")


CUSTOMERS = ["张伟", "李娜", "王芳", "刘洋", "陈静", "杨帆", "赵磊", "黄敏", "周杰", "吴倩"]
GOODS = ["苹果", "键盘", "雨伞", "绿茶", "台灯", "毛巾", "水杯", "书包", "耳机", "相机"]


def sentence(number: int) -> str:
    """Return one of sentences that all say other things."""
    customer, payment = CUSTOMERS[number % 10], get_args(Payment)[number % 3]
    first, second = GOODS[number % 10], GOODS[(number * 3 + 1) % 10]
    return f"{customer}买了 {number % 7 + 2} 件商品，有{first}，还有{second}，用{payment}付款。"


SENTENCES = [sentence(number) for number in range(DRILLS)]


@pytest.fixture(autouse=True)
def capable() -> None:
    answers({"smart": True})


@pytest.fixture
def client() -> Iterator[OpenAI]:
    with OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=300) as client:
        yield client


def check(order: Any, sentence: str) -> None:
    """An order that pydantic has judged; the fake also says what the sentence says."""
    assert isinstance(order, Order)
    if ENGINE_URL:
        assert str(order.quantity) in sentence
        assert order.payment in sentence


# Where the model is held to the schema, and not only asked to keep to it.
HELD = pytest.mark.held
MODES = [
    pytest.param(instructor.Mode.TOOLS, marks=HELD, id="tools"),
    pytest.param(instructor.Mode.JSON_SCHEMA, marks=HELD, id="json_schema"),
    pytest.param(instructor.Mode.JSON, id="json"),
]
OUTPUTS = [
    pytest.param(ToolOutput, id="tool"),
    pytest.param(NativeOutput, marks=HELD, id="json_schema"),
    pytest.param(PromptedOutput, id="json"),
]


@pytest.mark.parametrize("mode", MODES)
def test_instructor_extracts_an_object(client: OpenAI, mode: instructor.Mode) -> None:
    """`TOOLS` names a tool, `JSON_SCHEMA` sends the schema, `JSON` writes it into the prompt."""
    extracting = instructor.from_openai(client, mode=mode)

    for sentence in SENTENCES:
        order = extracting.chat.completions.create(
            model=MODEL, response_model=Order, max_retries=0, messages=[{"role": "user", "content": sentence}]
        )
        check(order, sentence)


@pytest.mark.parametrize("mode", MODES[:2])
def test_instructor_extracts_an_object_from_a_stream(client: OpenAI, mode: instructor.Mode) -> None:
    """`create_partial` reads the arguments piece by piece."""
    extracting = instructor.from_openai(client, mode=mode)

    for sentence in SENTENCES:
        *_, last = extracting.chat.completions.create_partial(
            model=MODEL, response_model=Order, max_retries=0, messages=[{"role": "user", "content": sentence}]
        )
        check(Order.model_validate(last.model_dump()), sentence)


def qwen() -> OpenAIChatModel:
    # Without the profile, pydantic-ai asks for `required`, which the vendor refuses (spec/chat.md §7).
    return OpenAIChatModel(
        MODEL,
        provider=AlibabaProvider(openai_client=AsyncOpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=300)),
        profile=OpenAIModelProfile(
            openai_supports_tool_choice_required=False,
            supports_json_schema_output=True,
            supports_json_object_output=True,
        ),
    )


@pytest.mark.parametrize("output", OUTPUTS)
async def test_pydantic_ai_extracts_an_object(output: Any) -> None:
    """By a tool, by the schema, and by JSON with the schema in the prompt."""
    agent = Agent(qwen(), output_type=output(Order), retries=0)

    for sentence in SENTENCES:
        check((await agent.run(sentence)).output, sentence)


@pytest.mark.parametrize("output", OUTPUTS[:2])
async def test_pydantic_ai_extracts_an_object_from_a_stream(output: Any) -> None:
    """The same words, in pieces."""
    agent = Agent(qwen(), output_type=output(Order), retries=0)

    for sentence in SENTENCES:
        async with agent.run_stream(sentence) as run:
            check(await run.get_output(), sentence)
