"""Sort what a user says: by a list of tags, and into a call of a tool."""

import json
import os
import re

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

TAGS = {"weather_query": "询问天气", "alarm_set": "设置闹钟", "play_music": "播放音乐", "email_query": "查询邮件"}
TOOLS = [
    {
        "name": "get_current_weather",
        "description": "当你想查询指定城市的天气时非常有用。",
        "parameters": {
            "type": "object",
            "properties": {"location": {"type": "string", "description": "城市或县区，比如北京市、杭州市。"}},
            "required": ["location"],
        },
    },
    {"name": "get_current_time", "description": "当你想知道现在的时间时非常有用。", "parameters": {}},
]
CHOOSE = f"""You are Qwen, created by Alibaba Cloud. You are a helpful assistant.
You should choose one tag from the tag list:
{json.dumps(TAGS, ensure_ascii=False)}
Just reply with the chosen tag."""
CALL = f"""You are Qwen, created by Alibaba Cloud. You are a helpful assistant. You may call one or more tools to \
assist with the user query. The tools you can use are as follows:
{json.dumps(TOOLS, ensure_ascii=False)}
Response in INTENT_MODE."""


def ask(messages: list) -> str:
    completion = client.chat.completions.create(model="tongyi-intent-detect-v3", messages=messages)
    return completion.choices[0].message.content


def part(name: str, reply: str) -> str:
    return re.search(f"<{name}>(.*?)</{name}>", reply, re.DOTALL)[1].strip()


tag = ask([{"role": "system", "content": CHOOSE}, {"role": "user", "content": "明天早上七点叫我起床"}])
print(f"标签：{tag}")

messages = [{"role": "system", "content": CALL}, {"role": "user", "content": "天气怎么样？"}]
reply = ask(messages)
print(f"追问：{part('content', reply)}")

messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": "杭州"}]
for call in json.loads(part("tool_call", ask(messages))):
    print(f"调用 {call['name']}：{call['arguments']}")
