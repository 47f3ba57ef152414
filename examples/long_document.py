"""Ask about a file: upload it, wait until it has been read, ask, and ask again."""

import os
import time

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

text = "云杉项目计划书\n\n项目于 2025 年 3 月启动，负责人是陆明远，预算为 420 万元。"
file = client.files.create(file=("plan.txt", text.encode()), purpose="file-extract")
while client.files.retrieve(file.id).status == "processing":
    time.sleep(1)

messages = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "system", "content": f"fileid://{file.id}"},
]
for question in ("项目的负责人是谁？", "预算是多少？"):
    messages.append({"role": "user", "content": question})
    stream = client.chat.completions.create(model="qwen-long", messages=messages, stream=True)
    answer = ""
    for chunk in stream:
        if chunk.choices and (piece := chunk.choices[0].delta.content):
            print(piece, end="", flush=True)
            answer += piece
    print()
    messages.append({"role": "assistant", "content": answer})

client.files.delete(file.id)
