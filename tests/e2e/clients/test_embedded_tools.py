"""A tool that is named, on real weights: whatever the schema and however small the model, its arguments fit."""

import asyncio
import os
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from openai import AsyncOpenAI
from pydantic import BaseModel, ConfigDict, Field

from tests.service import Service

pytestmark = pytest.mark.embedded

COUNT = 50 if os.environ.get("TEST_DRILLS") == "all" else 5
PATIENCE_S = 600.0  # two cores, shared


class Level(Enum):
    LOW = "低"
    MIDDLE = "中"
    HIGH = "高"


class Address(BaseModel):
    city: str
    street: str | None = None


class Ticket(BaseModel):
    """Enums and bounds."""

    title: str = Field(min_length=1, max_length=40)
    level: Level
    minutes: int = Field(ge=1, le=480)
    kind: Literal["bug", "question"] | None


class Contact(BaseModel):
    """An object inside, things that may be missing, nullable unions."""

    name: str
    address: Address
    age: Annotated[int, Field(ge=0, le=150)] | None = None
    vip: bool | None


class Cart(BaseModel):
    """An array of objects, with limits of its own."""

    class Line(BaseModel):
        name: str
        quantity: int = Field(ge=1, le=99)
        price: float | None = None

    lines: list[Line] = Field(min_length=1, max_length=3)
    coupon: str | None = None


class Trip(BaseModel):
    """Formats and patterns, closed to anything else."""

    model_config = ConfigDict(extra="forbid")

    start: date
    train: str = Field(pattern=r"^[GDK][0-9]{1,4}$")
    seats: list[Literal["一等", "二等"]] = Field(max_length=2)


class Tree(BaseModel):
    """A schema that refers to itself."""

    label: str
    children: list["Tree"] = Field(default=[], max_length=2)


QUESTIONS: list[tuple[type[BaseModel], str]] = [
    (Ticket, "登录页面打不开，很着急，估计两小时能修好，请建一张工单。"),
    (Contact, "我叫王芳，今年 31 岁，住在杭州市文三路。"),
    (Cart, "买 3 把雨伞和 2 个水杯，没有优惠券。"),
    (Trip, "2026 年 5 月 1 日坐 G7301 去上海，一等座。"),
    (Tree, "公司下面有研发部和市场部。"),
]


async def arguments_of(client: AsyncOpenAI, model: type[BaseModel], question: str, seed: int, *, stream: bool) -> str:
    """Return the arguments of the one call that must come."""
    name = f"save_{model.__name__.lower()}"
    tool = {"type": "function", "function": {"name": name, "description": f"保存：{model.__doc__ or name}"}}
    options: dict[str, Any] = {
        "model": "qwen-plus",
        "messages": [{"role": "user", "content": question}],
        "tools": [{**tool, "function": {**tool["function"], "parameters": model.model_json_schema()}}],  # type: ignore[dict-item]
        "tool_choice": {"type": "function", "function": {"name": name}},
        "seed": seed,
    }
    if stream:
        async with client.chat.completions.stream(**options) as streaming:
            choice: Any = (await streaming.get_final_completion()).choices[0]
    else:
        choice = (await client.chat.completions.create(**options)).choices[0]
    [call] = choice.message.tool_calls
    assert (choice.finish_reason, call.function.name) == ("tool_calls", name)
    return str(call.function.arguments)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_arguments_of_a_named_tool_fit_its_schema_every_time(embedded_service: Service, stream: bool) -> None:
    """pydantic is the judge, and a strict one: programs build their objects from these without a second look."""
    asked = [(*QUESTIONS[number % len(QUESTIONS)], number) for number in range(COUNT)]
    places = asyncio.Semaphore(4)  # as many as the engine has: nobody's patience is spent in a queue
    async with embedded_service.async_client(timeout=PATIENCE_S) as client:

        async def call(model: type[BaseModel], question: str, seed: int) -> str:
            async with places:
                return await arguments_of(client, model, question, seed, stream=stream)

        answers = await asyncio.gather(*(call(*one) for one in asked))

    for (model, _, _), arguments in zip(asked, answers, strict=True):
        model.model_validate_json(arguments, strict=True)
