"""Find out from a customer service's dialogue what was wrong, and how satisfied the customer is."""

import json
import os

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

DIALOGUE = """[1] 客服：您好，请问有什么可以帮您？
[2] 用户：我叫王芳，上周买的洗衣机不转了，订单号是 20261123。
[3] 客服：非常抱歉，我帮您登记维修，师傅明天上午上门。
[4] 用户：太好了，谢谢你！"""

FIELDS = f"""请从对话中提取信息，对话中没有的填“未提及”。输出 JSON：
{{"姓名": "张三", "电话": "13800000000", "订单号": "123456", "商品": "电视机"}}

对话：
{DIALOGUE}"""

SATISFACTION = f"""判断用户的满意度，按“标签#理由”输出，规则按顺序，第一条符合的生效：
1. 满意：用户明确表示感谢。
2. 不满意：用户投诉或指责。
3. 一般：其他情况。

对话：
{DIALOGUE}"""


def analyse(prompt: str) -> str:
    completion = client.chat.completions.create(
        model="tongyi-xiaomi-analysis-flash",
        messages=[{"role": "user", "content": prompt}],
        temperature=0,
        extra_body={"top_k": 1},
    )
    return completion.choices[0].message.content


for name, value in json.loads(analyse(FIELDS)).items():
    print(f"{name}：{value}")
label, reason = analyse(SATISFACTION).split("#", 1)
print(f"满意度：{label}（{reason}）")
