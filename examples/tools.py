"""Let a model call a function and answer with what it returned."""

import json
import os

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)


def get_current_weather(location: str) -> str:
    return f"{location}今天是晴天，25 摄氏度。"


tools = [
    {
        "type": "function",
        "function": {
            "name": "get_current_weather",
            "description": "当你想查询指定城市的天气时非常有用。",
            "parameters": {
                "type": "object",
                "properties": {"location": {"type": "string", "description": "城市或县区，比如北京市、杭州市。"}},
                "required": ["location"],
            },
        },
    }
]
messages = [{"role": "user", "content": "杭州市天气怎么样？"}]

message = client.chat.completions.create(model="qwen-plus", messages=messages, tools=tools).choices[0].message
while message.tool_calls:
    messages.append(message)
    for call in message.tool_calls:
        arguments = json.loads(call.function.arguments)
        print(f"调用 {call.function.name}：{arguments}")
        result = get_current_weather(**arguments)
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
    message = client.chat.completions.create(model="qwen-plus", messages=messages, tools=tools).choices[0].message
print(message.content)
