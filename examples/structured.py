"""Get a typed object out of a sentence."""

import os
from typing import Literal

from openai import OpenAI
from pydantic import BaseModel


class Order(BaseModel):
    customer: str
    items: list[str]
    quantity: int
    payment: Literal["支付宝", "微信", "银行卡"]


client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

completion = client.chat.completions.parse(
    model="qwen-plus",
    messages=[
        {"role": "system", "content": "从用户的话里提取订单，以 JSON 输出。"},
        {"role": "user", "content": "李娜买了 3 件商品，有键盘，还有台灯，用微信付款。"},
    ],
    response_format=Order,
)
order = completion.choices[0].message.parsed
print(order.model_dump_json(indent=2))
