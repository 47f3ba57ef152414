"""A small coding agent: a model that reads files, until it has an answer."""

import json
import os

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

FILES = {
    "main.py": "from util import greet\n\nprint(greet('world'))\n",
    "util.py": "def greet(name):\n    return name\n",
}
MOST_TURNS = 8


def list_files() -> str:
    return "\n".join(FILES)


def read_file(path: str) -> str:
    return FILES.get(path, f"没有文件 {path}")


def tool(function, description: str, **parameters: str) -> dict:
    properties = {name: {"type": "string", "description": about} for name, about in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "type": "function",
        "function": {"name": function.__name__, "description": description, "parameters": schema},
    }


functions = {function.__name__: function for function in (list_files, read_file)}
tools = [tool(list_files, "列出项目中的文件"), tool(read_file, "读取一个文件", path="文件名")]
messages = [{"role": "user", "content": "读取 util.py，说说 greet 函数返回什么。"}]

for _ in range(MOST_TURNS):
    completion = client.chat.completions.create(model="qwen3-coder-plus", messages=messages, tools=tools)
    message = completion.choices[0].message
    if not message.tool_calls:
        print(message.content)
        break
    messages.append(message)
    for call in message.tool_calls:
        print(f"调用 {call.function.name}：{call.function.arguments}")
        result = functions[call.function.name](**json.loads(call.function.arguments))
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
