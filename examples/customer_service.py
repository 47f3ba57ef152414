"""Answer customers out of a list of questions, and hand over to people what is not in it."""

import os
import re

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

FAQ = {
    "退货": "如何退货退款？签收后 7 天内可以申请退货，退款在 3 个工作日内原路返回。",
    "发货": "多久发货？付款后 48 小时内发货，节假日顺延。",
    "运费": "运费怎么算？订单满 99 元包邮，不满收运费 8 元。",
    "发票": "怎么开发票？在订单详情页点击“申请发票”，电子发票当天发到邮箱。",
}
LEAST_ALIKE = 0.25
CANNOT = "资料不足"
HAND_OVER = "这个问题我需要请人工客服来回答，正在为您转接。"
PROMISES = re.compile("保证|承诺|一定|肯定|赔偿|赔付|免费")


def pairs(text: str) -> set[str]:
    bare = re.sub(r"\W|我|你|您|的|了|吗|呢|可以|怎么|如何|什么|请问", "", text)
    return {bare[at : at + 2] for at in range(len(bare) - 1)}


def alike(question: str, entry: str) -> float:
    """The share of the question's pairs of characters that the entry has."""
    asked = pairs(question)
    return len(asked & pairs(entry)) / len(asked) if asked else 0.0


def is_backed(answer: str, entry: str) -> bool:
    """Whether an answer has no number and no promise that the entry does not have."""
    extra = set(re.findall(r"\d+", answer)) - set(re.findall(r"\d+", entry))
    return bool(answer) and not extra and not set(PROMISES.findall(answer)) - set(PROMISES.findall(entry))


def answer(question: str) -> tuple[str, str]:
    """The answer, and for our own records the entry that it is from ("" for none)."""
    key = max(FAQ, key=lambda one: alike(question, FAQ[one] + one))
    if alike(question, FAQ[key] + key) < LEAST_ALIKE:
        return HAND_OVER, ""
    completion = client.chat.completions.create(
        model="qwen-plus",
        messages=[
            {
                "role": "system",
                "content": "你是客服。只根据资料用一两句话回答，不得添加资料以外的内容。"
                f"资料没有提到问题的答案时，只回答“{CANNOT}”。\n资料：{FAQ[key]}",
            },
            {"role": "user", "content": question},
        ],
        temperature=0,
        max_tokens=100,
    )
    said = completion.choices[0].message.content.strip()
    if CANNOT in said:
        return HAND_OVER, ""
    return (said if is_backed(said, FAQ[key]) else FAQ[key].split("？", 1)[1]), key


for question in ["退货退款要几天？", "付款后多久发货？", "满多少包邮？", "你们的股票会涨吗？", "帮我写一首诗"]:
    text, source = answer(question)
    print(f"问：{question}\n答：{text}\n[记录] {source or '转人工'}\n")
