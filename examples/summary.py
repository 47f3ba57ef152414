"""Summarise a text: as long as asked for, and with no number in it that the text does not have."""

import os
import re

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

LENGTH = 60  # characters, a tenth more or less
SHORTEST, LONGEST = LENGTH * 9 // 10, LENGTH * 11 // 10
TRIES = 2
TEXT = """市图书馆发布公告：自 12 月 1 日起，新馆正式开放。新馆建筑面积 3.2 万平方米，设阅览座位 1800 个，
藏书 120 万册。开放时间为每天 9:00 至 21:00，周一闭馆。读者可凭身份证免费办理借书证，每证最多可借图书 20 册，
借期 30 天。老馆将于 11 月 28 日起停止借阅，馆内图书在 15 天内完成搬迁，期间还书可投入门口的自助还书箱。"""


def numbers(text: str) -> set[str]:
    return set(re.findall(r"\d+(?:\.\d+)?", text))


def clauses(text: str) -> list[str]:
    return re.findall(r"[^，。；！？\n]+[，。；！？]?", text)


def faults(summary: str) -> list[str]:
    """What the model is told about its summary; nothing when it keeps to the rules."""
    found = []
    if not SHORTEST <= len(summary) <= LONGEST:
        found.append(f"有 {len(summary)} 个字，要求 {SHORTEST} 到 {LONGEST} 个字")
    if unknown := numbers(summary) - numbers(TEXT):
        found.append(f"原文中没有这些数字：{'、'.join(sorted(unknown))}")
    return found


def repaired(summary: str) -> str:
    """What code can do where the model could not: clauses without a wrong number, the summary's and then the text's."""
    kept = ""
    for clause in clauses(summary) + clauses(TEXT):
        fits = len(kept) + len(clause) < LONGEST and not numbers(clause) - numbers(TEXT)
        if fits and clause.rstrip("，。；！？") not in kept and len(kept) < SHORTEST:
            kept += clause
    return kept if kept[-1] in "。！？" else kept.rstrip("，；") + "。"


messages = [{"role": "user", "content": f"用大约 {LENGTH} 个字概括下面的公告，只输出概括：\n{TEXT}"}]
for _ in range(TRIES):
    completion = client.chat.completions.create(model="qwen-plus", messages=messages, temperature=0, max_tokens=100)
    summary = completion.choices[0].message.content.strip()
    if not (found := faults(summary)):
        break
    messages += [
        {"role": "assistant", "content": summary},
        {"role": "user", "content": f"{'；'.join(found)}。请改正，只输出概括。"},
    ]
else:
    summary = repaired(summary)

print(summary)
print(f"{len(summary)} 字，问题：{'；'.join(faults(summary)) or '无'}")
