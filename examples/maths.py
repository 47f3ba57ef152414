"""Solve a problem step by step, and take the result out of its box."""

import os
import re

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

stream = client.chat.completions.create(
    model="qwen-math-turbo",
    messages=[{"role": "user", "content": "一个长方形长 8 厘米，宽 5 厘米，面积是多少平方厘米？"}],
    stream=True,
)
solution = ""
for chunk in stream:
    text = chunk.choices[0].delta.content or ""
    solution += text
    print(text, end="", flush=True)

print(f"\n\n答案：{re.search(r'boxed{(.*)}', solution)[1]}")
