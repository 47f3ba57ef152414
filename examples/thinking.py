"""Print a model's thoughts as they come, then its answer."""

import os

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

stream = client.chat.completions.create(
    model="qwen-plus",
    messages=[{"role": "user", "content": "9.9 和 9.11 哪个大？"}],
    extra_body={"enable_thinking": True},
    stream=True,
)
print("思考过程：")
is_answering = False
for chunk in stream:
    delta = chunk.choices[0].delta
    if getattr(delta, "reasoning_content", None):
        print(delta.reasoning_content, end="", flush=True)
    if delta.content:
        if not is_answering:
            print("\n\n完整回复：")
            is_answering = True
        print(delta.content, end="", flush=True)
print()
