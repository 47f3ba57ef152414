"""An agent with twenty tools, through the official SDK: it calls, gets results, and comes to an end with words."""

import json
import os
from collections.abc import Callable
from typing import Any

import openai
import pytest
from openai import OpenAI

from hanlin.testing import FakeEngine, Rule
from hanlin.testing.rules import ToolCall
from tests.service import Service

TURNS = 25
PATIENCE_S = 600.0


def tool(name: str, description: str, **parameters: str) -> Any:
    properties = {key: {"type": "string", "description": value} for key, value in parameters.items()}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS: list[Any] = [
    tool("read_file", "读取一个文件的内容", path="文件路径"),
    tool("write_file", "写入一个文件", path="文件路径", content="内容"),
    tool("list_directory", "列出一个目录中的文件", path="目录路径"),
    tool("delete_file", "删除一个文件", path="文件路径"),
    tool("move_file", "移动一个文件", source="原路径", target="新路径"),
    tool("search_text", "在文件中搜索文字", query="要找的文字"),
    tool("run_tests", "运行测试"),
    tool("run_command", "运行一个命令", command="命令"),
    tool("git_status", "查看版本库的状态"),
    tool("git_diff", "查看改动"),
    tool("git_commit", "提交改动", message="提交说明"),
    tool("git_log", "查看提交历史"),
    tool("install_package", "安装一个包", package="包名"),
    tool("fetch_page", "读取一个网页", url="地址"),
    tool("format_code", "整理代码格式", path="文件路径"),
    tool("lint_code", "检查代码", path="文件路径"),
    tool("count_lines", "统计行数", path="文件路径"),
    tool("make_directory", "新建目录", path="目录路径"),
    tool("get_time", "查看现在的时间"),
    tool("send_message", "发送消息给同事", person="姓名", text="消息"),
]
RESULT = "完成。共 3 个文件：main.py、util.py、test_main.py。"


def run(ask: Callable[[list[Any]], Any], task: str) -> tuple[str, list[str]]:
    """Run the loop that the vendor's page shows; return the last words, and the tools that were called."""
    messages: list[Any] = [{"role": "system", "content": "你是编程助手。"}, {"role": "user", "content": task}]
    called: list[str] = []
    for _ in range(TURNS):
        message = ask(messages)
        if not message["tool_calls"]:
            return message["content"], called
        messages.append({"role": "assistant", **message})
        for call in message["tool_calls"]:
            json.loads(call["function"]["arguments"])
            called.append(call["function"]["name"])
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": RESULT})
    raise AssertionError(f"no words after {TURNS} turns: {called}")


def whole(client: OpenAI, model: str) -> Callable[[list[Any]], Any]:
    def ask(messages: list[Any]) -> Any:
        done = client.chat.completions.create(model=model, messages=messages, tools=TOOLS)
        message = done.choices[0].message
        calls = [call.model_dump() for call in message.tool_calls or ()]
        assert (done.choices[0].finish_reason == "tool_calls") == bool(calls)
        return {"content": message.content or "", "tool_calls": calls}

    return ask


def streamed(client: OpenAI, model: str) -> Callable[[list[Any]], Any]:
    """Put calls together from their pieces, as clients do."""

    def ask(messages: list[Any]) -> Any:
        content, calls = "", dict[int, Any]()
        for chunk in client.chat.completions.create(model=model, messages=messages, tools=TOOLS, stream=True):
            for choice in chunk.choices:
                content += choice.delta.content or ""
                for piece in choice.delta.tool_calls or ():
                    assert piece.function is not None
                    made = calls.setdefault(
                        piece.index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
                    )
                    made["id"] = made["id"] or piece.id
                    made["function"]["name"] += piece.function.name or ""
                    made["function"]["arguments"] += piece.function.arguments or ""
        return {"content": content, "tool_calls": list(calls.values())}

    return ask


WAYS = pytest.mark.parametrize("way", [whole, streamed])


@WAYS
@pytest.mark.parametrize("model", ["qwen3-coder-plus", "qwen3-coder-flash"])
def test_an_agent_calls_all_twenty_tools_and_ends_with_words(
    client: OpenAI, engine: FakeEngine, way: Any, model: str
) -> None:
    """Spec scenarios §7.6: one call a turn, each with its result, then text."""
    calls = [Rule(times=1, tool_calls=(ToolCall(one["function"]["name"]),)) for one in TOOLS]
    engine.rules([*calls, Rule(text="都做完了。")])

    words, called = run(way(client, model), "把每个工具都用一次。")

    assert words == "都做完了。"
    assert called == [one["function"]["name"] for one in TOOLS]
    assert {request.body["temperature"] for request in engine.requests()} == {0.2}


def test_a_caller_who_sets_a_temperature_gets_it(client: OpenAI, engine: FakeEngine) -> None:
    """Agents are cooler unless they say otherwise; a call without tools is as ever."""
    engine.rules([Rule(text="好。")])
    asked: dict[str, Any] = {"model": "qwen3-coder-plus", "messages": [{"role": "user", "content": "你好"}]}

    client.chat.completions.create(**asked, tools=TOOLS, temperature=1.1)
    client.chat.completions.create(**asked, tools=TOOLS, tool_choice="none")
    client.chat.completions.create(**asked)

    assert [request.body["temperature"] for request in engine.requests()] == [1.1, 0.7, 0.7]


def test_an_agent_that_goes_in_circles_is_told_so(client: OpenAI, engine: FakeEngine) -> None:
    """The same call with the same arguments again and again: an error in the vendor's words ends it."""
    engine.rules([Rule(tool_calls=(ToolCall("read_file", {"path": "main.py"}),))])

    with pytest.raises(openai.BadRequestError, match="Repetitive tool calls detected in the conversation history"):
        run(whole(client, "qwen3-coder-plus"), "读取 main.py")

    assert len(engine.requests()) == 10


@pytest.mark.embedded
@pytest.mark.skipif(os.environ.get("TEST_DRILLS") != "all", reason="a drill: twenty tools are a long prompt")
@WAYS
@pytest.mark.parametrize(
    "task", ["列出 src 目录中的文件，然后告诉我有几个。", "现在几点了？", "读取 main.py，说说里面有什么。"]
)
def test_an_agent_on_real_weights_ends_with_words(embedded_service: Service, way: Any, task: str) -> None:
    """Whichever tools it calls, and however often: it comes to an end."""
    with embedded_service.client(timeout=PATIENCE_S) as client:
        words, called = run(way(client, "qwen3-coder-plus"), task)

    assert words.strip()
    assert {one["function"]["name"] for one in TOOLS} >= set(called)
