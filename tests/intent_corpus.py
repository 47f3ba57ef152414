"""Utterances for intent models, made from templates: what is offered, what is said, and what should come of it.

In Chinese and English, with the value of a required argument or without it, and some that no tool is for.
"""

import json
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Mode = Literal["intent", "normal", "tag"]


def _tool(name: str, description: str, required: dict[str, Any], optional: dict[str, Any] | None = None) -> Any:
    properties = {**required, **(optional or {})}
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"name": name, "description": description, "parameters": parameters if properties else {}}


def _text(description: str, **more: Any) -> Any:
    return {"description": description, "type": "string", **more}


TOOLS: list[Any] = [
    _tool(
        "get_current_weather",
        "当你想查询指定城市的天气时非常有用。",
        {"location": _text("城市或县区，比如北京市、杭州市、余杭区等。")},
    ),
    _tool("get_current_time", "当你想知道现在的时间时非常有用。", {}),
    _tool(
        "book_train",
        "预订火车票。",
        {"destination": _text("目的地城市"), "seats": {"type": "integer", "description": "票数", "default": 1}},
    ),
    _tool("play_music", "播放音乐。", {"song": _text("歌曲名")}),
    _tool("set_alarm", "设置闹钟。", {"time": _text("响铃时间，如 7点30分")}),
    _tool("translate", "翻译一段文字。", {"text": _text("要翻译的文字"), "language": _text("目标语言")}),
    _tool("turn_light", "开灯或关灯。", {"room": _text("房间"), "state": _text("开或关", enum=["on", "off"])}),
    _tool("get_stock_price", "查询股票价格。", {"company": _text("公司名称")}),
    _tool("call_contact", "打电话给联系人。", {"contact": _text("联系人姓名")}),
    _tool("get_news", "查看今天的新闻。", {}, {"topic": _text("新闻主题，如体育")}),
]

MORE_TOOLS: list[Any] = [
    _tool("order_takeaway", "点外卖。", {"dish": _text("菜名")}),
    _tool("book_hotel", "预订酒店。", {"hotel": _text("酒店名称")}),
    _tool("book_flight", "预订机票。", {"airport": _text("到达机场")}),
    _tool("hail_taxi", "叫出租车。", {"pickup": _text("上车地点")}),
    _tool("get_traffic", "查询路况。", {"road": _text("道路名称")}),
    _tool("send_email", "发送电子邮件。", {"recipient": _text("收件人"), "body": _text("正文")}),
    _tool("add_schedule", "添加日程。", {"event": _text("事项")}),
    _tool("set_timer", "开始倒计时。", {"minutes": {"type": "integer", "description": "分钟数"}}),
    _tool("convert_currency", "换算货币。", {"amount": {"type": "number", "description": "金额"}}),
    _tool("adjust_temperature", "调节空调温度。", {"degrees": {"type": "integer", "description": "温度"}}),
    _tool("open_curtain", "打开窗帘。", {}, {"room": _text("房间")}),
    _tool("start_vacuum", "让扫地机器人开始打扫。", {}, {"room": _text("房间")}),
    _tool("lock_door", "锁门。", {}),
    _tool("take_photo", "拍照。", {}),
    _tool("record_voice", "录音。", {}),
    _tool("track_parcel", "查询快递。", {"number": _text("快递单号")}),
    _tool("pay_bill", "缴纳水电费。", {"bill": _text("账单种类")}),
    _tool("find_recipe", "查找菜谱。", {"dish": _text("菜名")}),
    _tool("look_up_word", "查词典。", {"word": _text("单词")}),
    _tool("count_steps", "查看今天走了多少步。", {}),
]
"""With these, thirty tools are offered: three times as many as the vendor advises."""

TAGS: dict[str, str] = {
    "weather_query": "询问天气",
    "datetime_query": "询问日期或时间",
    "alarm_set": "设置闹钟",
    "play_music": "播放音乐",
    "iot_hue_lighton": "打开灯",
    "iot_hue_lightoff": "关闭灯",
    "transport_ticket": "预订车票、机票",
    "transport_traffic": "询问路况、堵车",
    "news_query": "查询新闻",
    "email_addcontact": "添加新的邮件联系人",
    "email_query": "查询邮件",
    "calendar_set": "添加日程或提醒",
    "takeaway_order": "点外卖",
    "qa_currency": "询问汇率",
    "qa_stock": "询问股价",
    "general_joke": "讲笑话",
}

_CITIES = ("杭州", "北京", "上海", "成都", "广州", "西安")
_SONGS = ("青花瓷", "月亮代表我的心", "平凡之路", "后来")
_PEOPLE = ("王芳", "李雷", "小明", "张医生")
_TIMES = ("7点30分", "6点", "8点15分", "22点")
_FIRMS = ("腾讯", "阿里巴巴", "小米", "比亚迪")


@dataclass(frozen=True)
class Spoken:
    """What somebody says to a model in one mode.

    `tag` or `calls` should come of it; `asks`: a question for what is missing. `chat`: an answer without any call.
    """

    mode: Mode
    text: str
    tag: str = ""
    calls: tuple[Mapping[str, Any], ...] = ()
    asks: bool = False
    chat: bool = False
    earlier: tuple[tuple[str, str], ...] = field(default=())

    def messages(self, tools: list[Any] = TOOLS) -> list[Any]:
        turns = [{"role": role, "content": content} for role, content in self.earlier]
        system = system_of(self.mode, tools)
        return [{"role": "system", "content": system}, *turns, {"role": "user", "content": self.text}]


def system_of(mode: Mode, tools: list[Any] = TOOLS, tags: dict[str, str] = TAGS) -> str:
    """Return the system message as the vendor's page has programs write it."""
    if mode == "tag":
        return (
            "You are Qwen, created by Alibaba Cloud. You are a helpful assistant. \n"
            f"You should choose one tag from the tag list:\n{json.dumps(tags, ensure_ascii=False)}\n"
            "Just reply with the chosen tag."
        )
    return (
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant. You may call one or more tools to assist "
        f"with the user query. The tools you can use are as follows:\n{json.dumps(tools, ensure_ascii=False)}\n"
        f"Response in {mode.upper()}_MODE."
    )


def _called(name: str, **arguments: Any) -> tuple[Mapping[str, Any], ...]:
    return ({"name": name, "arguments": arguments},)


def _with_calls(mode: Mode) -> list[Spoken]:
    spoken: list[Spoken] = []
    for city in _CITIES:
        spoken += [
            Spoken(mode, f"{city}天气怎么样？", calls=_called("get_current_weather", location=city)),
            Spoken(mode, f"帮我订一张去{city}的火车票", calls=_called("book_train", destination=city, seats=1)),
        ]
    spoken += [Spoken(mode, f"放一首{song}", calls=_called("play_music", song=song)) for song in _SONGS]
    spoken += [Spoken(mode, f"明天早上{time}叫我起床", calls=_called("set_alarm", time=time)) for time in _TIMES]
    spoken += [Spoken(mode, f"打电话给{person}", calls=_called("call_contact", contact=person)) for person in _PEOPLE]
    spoken += [Spoken(mode, f"{firm}的股价是多少", calls=_called("get_stock_price", company=firm)) for firm in _FIRMS]
    spoken += [
        Spoken(mode, "What's the weather like in London?", calls=_called("get_current_weather", location="London")),
        Spoken(mode, "现在几点了", calls=_called("get_current_time")),
        Spoken(mode, "今天有什么新闻", calls=_called("get_news")),
        Spoken(mode, "把卧室的灯打开", calls=_called("turn_light", room="卧室", state="on")),
        Spoken(mode, "Play Yesterday, please", calls=_called("play_music", song="Yesterday")),
        Spoken(mode, "把“早上好”翻译成法语", calls=_called("translate", text="早上好", language="法语")),
    ]
    missing = (
        "天气怎么样？",
        "我想听歌",
        "帮我打个电话",
        "查一下股价",
        "我要订火车票",
        "定个闹钟",
        "Call somebody for me",
    )
    spoken += [Spoken(mode, text, asks=True) for text in missing]
    spoken += [Spoken(mode, text, chat=True) for text in ("你好呀", "谢谢你的帮助", "Tell me a joke")]
    question = "好的，请问您想查询哪个城市的天气呢？"
    asked = f"<tags>\n[weather inquiry]\n</tags><tool_call>\n[]\n</tool_call><content>\n{question}\n</content>"
    history = (("user", "查一下天气"), ("assistant", asked if mode == "intent" else question))
    for city in ("杭州", "深圳"):
        call = _called("get_current_weather", location=city)
        spoken.append(Spoken(mode, city, calls=call, earlier=history))
    return spoken


def _with_tags() -> list[Spoken]:
    said: dict[str, list[str]] = {
        "weather_query": [f"{city}明天会下雨吗" for city in _CITIES] + ["Do I need an umbrella today?"],
        "datetime_query": ["现在几点了", "今天是星期几", "What time is it in Tokyo?", "今年国庆节是几号"],
        "alarm_set": [f"{time}叫醒我" for time in _TIMES] + ["Wake me up at seven"],
        "play_music": [f"播放{song}" for song in _SONGS] + ["Put on some jazz"],
        "iot_hue_lighton": ["把客厅的灯打开", "开一下卧室的灯", "Turn on the kitchen light"],
        "iot_hue_lightoff": ["把灯关了", "关掉书房的灯", "Switch off the lights"],
        "transport_ticket": [f"帮我买一张去{city}的票" for city in _CITIES[:4]],
        "transport_traffic": ["去机场的路上堵车吗", "现在二环路况怎么样", "How is the traffic downtown?"],
        "news_query": ["今天有什么新闻", "给我念念体育新闻", "What's in the news?"],
        "email_addcontact": ["把 li@example.com 加到我的邮件联系人里", "Add this address to my email contacts"],
        "email_query": ["我有没有新邮件", "王总给我发邮件了吗", "Do I have any new email?"],
        "calendar_set": ["提醒我周五下午三点开会", "把下周一的体检加到日程里", "Remind me to pay the rent tomorrow"],
        "takeaway_order": ["帮我点一份外卖", "点两份宫保鸡丁送到公司", "Order a pizza for me"],
        "qa_currency": ["一美元等于多少人民币", "欧元汇率是多少", "How many yen is one dollar?"],
        "qa_stock": [f"{firm}股价多少" for firm in _FIRMS],
        "general_joke": ["讲个笑话", "说个段子逗我开心", "Tell me a joke"],
    }
    return [Spoken("tag", text, tag=tag) for tag, texts in said.items() for text in texts]


def calls_in(reply: str) -> list[Any]:
    """Return the calls of a reply, found as clients find them. Raises ValueError for what they cannot read."""
    calls: list[Any] = []
    for block in re.findall(r"<tool_call>(.*?)</tool_call>", reply, re.DOTALL):
        value = json.loads(block)
        calls += value if isinstance(value, list) else [value]
    return calls


def is_right(one: Spoken, reply: str) -> bool:
    """Whether a client gets what was meant; values may be written in other words (杭州 or 杭州市)."""
    if one.tag:
        return reply == one.tag
    try:
        calls = calls_in(reply)
        if [call["name"] for call in calls] != [call["name"] for call in one.calls]:
            return False
        pairs = [(made["arguments"], meant["arguments"]) for made, meant in zip(calls, one.calls, strict=True)]
        return all(str(meant[key]) in str(made.get(key, "")) for made, meant in pairs for key in meant)
    except (ValueError, TypeError, KeyError, AttributeError):
        return False


def utterances(count: int = 200) -> list[Spoken]:
    """Return so many utterances of all modes, always the same ones; fewer are a part of more."""
    every = [*_with_calls("intent"), *_with_calls("normal"), *_with_tags()]
    again = [
        Spoken(one.mode, f"{polite}{one.text}", one.tag, one.calls, one.asks, one.chat, one.earlier)
        for polite in ("麻烦你，", "嗯，")
        for one in every
        if one.text[0] >= "\u3400"
    ]
    random.Random(6).shuffle(every)
    return (every + again)[:count]


__all__ = ["MORE_TOOLS", "TAGS", "TOOLS", "Spoken", "calls_in", "is_right", "system_of", "utterances"]
