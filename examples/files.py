"""Upload a document, wait until it has been read, list what is there, and delete it."""

import os
import time
from pathlib import Path

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

path = Path("contract.md")
path.write_text("# 合同\n\n第一条 甲方于 2026 年 12 月 1 日前付款。\n", encoding="utf-8")

file = client.files.create(file=path, purpose="file-extract")
while file.status == "processing":
    time.sleep(1)
    file = client.files.retrieve(file.id)
print(file.status, file.filename, file.bytes)

for one in client.files.list(purpose="file-extract"):
    print(one.id.startswith("file-fe-"), one.filename)

print(client.files.delete(file.id).deleted)
