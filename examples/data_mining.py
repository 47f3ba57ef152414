"""Get records out of a file, as JSON."""

import json
import os
import time

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

table = "编号,品名,单价,状态\nA-001,螺丝,¥1.50,已付\nA-002,螺母,¥0.80,未付\nA-003,垫片,¥0.20,已付\n"
file = client.files.create(file=("orders.csv", table.encode()), purpose="file-extract")
while client.files.retrieve(file.id).status == "processing":
    time.sleep(1)

completion = client.chat.completions.create(
    model="qwen-doc-turbo",
    messages=[
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "system", "content": f"fileid://{file.id}"},
        {"role": "user", "content": '提取所有订单，输出 JSON 数组：[{"编号": "", "品名": "", "单价": ""}]'},
    ],
)
text = completion.choices[0].message.content
for order in json.loads(text.removeprefix("```json").removesuffix("```")):
    print(order["编号"], order["品名"], order["单价"])

client.files.delete(file.id)
