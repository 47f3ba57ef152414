"""Ask three questions at once and print each answer as it comes."""

import asyncio
import os

from openai import AsyncOpenAI

QUESTIONS = ["你是谁？", "你会什么？", "天气怎么样？"]

client = AsyncOpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)


async def ask(question: str) -> None:
    completion = await client.chat.completions.create(
        model="qwen-plus",
        messages=[
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": question},
        ],
    )
    print(f"{question}\n  {completion.choices[0].message.content}")


async def main() -> None:
    await asyncio.gather(*(ask(question) for question in QUESTIONS))


asyncio.run(main())
