"""Let a model go on with code that has been begun."""

import os

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

PREFIX = "```python\ndef is_prime(n):\n"

completion = client.chat.completions.create(
    model="qwen3-coder-plus",
    messages=[
        {"role": "user", "content": "用 Python 写一个判断质数的函数 is_prime。"},
        {"role": "assistant", "content": PREFIX, "partial": True},
    ],
    stop=["```"],
    max_tokens=120,
)
print(PREFIX.removeprefix("```python\n") + completion.choices[0].message.content)
