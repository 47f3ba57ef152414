"""Ask one question and print what answered it, instead of the answer."""

import os

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

response = client.chat.completions.with_raw_response.create(
    model="qwen-plus",
    messages=[{"role": "user", "content": "你是谁？"}],
)
print(response.headers["x-hanlin-served-by"])
print(response.headers.get("x-hanlin-ignored"))
print(response.parse().system_fingerprint)
