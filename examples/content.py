"""Write a short text to a brief: an outline, a draft, and reviews until its hard rules are kept."""

import os
import re

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

BRIEF = "为一款便携咖啡机写一段产品介绍，面向经常出差的人。"
REQUIRED = ["USB-C", "三分钟"]
FORBIDDEN = ["最好", "第一", "绝对"]
LENGTH = 150  # characters, a tenth more or less
SHORTEST, LONGEST = LENGTH * 9 // 10, LENGTH * 11 // 10
REVIEWS = 2
FURTHER = ["重量和外观", "味道", "清洗和充电"]  # what is written about where the text is still too short


def ask(task: str) -> str:
    completion = client.chat.completions.create(
        model="qwen-plus", messages=[{"role": "user", "content": task}], temperature=0.3, max_tokens=200
    )
    return completion.choices[0].message.content.strip()


def faults(text: str) -> list[str]:
    found = [f"必须出现“{phrase}”" for phrase in REQUIRED if phrase not in text]
    found += [f"不能出现“{word}”" for word in FORBIDDEN if word in text]
    if not SHORTEST <= len(text) <= LONGEST:
        found.append(f"现在有 {len(text)} 个字，要求 {SHORTEST} 到 {LONGEST} 个字")
    return found


def closing(text: str) -> str:
    return "".join(f"{phrase}。" for phrase in REQUIRED if phrase not in text)


def repaired(drafts: list[str]) -> str:
    """What code can do where the model could not: clauses without a forbidden word until they are enough.

    Those of the last draft come first, then those of the drafts before it and of what was added to them; required
    phrases are put behind them.
    """
    kept = ""
    for clause in re.findall(r"[^，。；！？\n]+[，。；！？]?", "\n".join(reversed(drafts))):
        allowed = not any(word in clause for word in FORBIDDEN) and clause.rstrip("，。；！？") not in kept
        if allowed and len(kept + closing(kept)) < SHORTEST and len(kept + clause + closing(kept + clause)) < LONGEST:
            kept += clause
    kept = kept if kept.endswith(("。", "！", "？")) else kept.rstrip("，；") + "。"
    return kept + closing(kept)


rules = f"必须出现：{'、'.join(REQUIRED)}。不能出现：{'、'.join(FORBIDDEN)}。{SHORTEST} 到 {LONGEST} 个字。"
outline = ask(f"{BRIEF}先列出三个要点，每点不超过 15 个字。")
print(f"提纲：\n{outline}\n")
drafts = [ask(f"{BRIEF}\n要点：\n{outline}\n要求：{rules}\n只输出正文。")]
for _ in range(REVIEWS):
    if not (found := faults(drafts[-1])):
        break
    problems = "；".join(found)
    task = f"按要求修改下面的文字，只输出修改后的正文。\n要求：{rules}\n问题：{problems}\n文字：{drafts[-1]}"
    drafts.append(ask(task))
text = repaired(drafts) if faults(drafts[-1]) else drafts[-1]
for point in FURTHER:
    if not faults(text):
        break
    drafts.insert(0, ask(f"{BRIEF}只写两句话，只讲它的{point}。"))
    text = repaired(drafts)

print(text)
print(f"{len(text)} 字，问题：{'；'.join(faults(text)) or '无'}")
