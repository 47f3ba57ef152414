"""Translate with terms that are kept, and see what was corrected on the way."""

import os

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

completion = client.chat.completions.create(
    model="qwen-mt-plus",
    messages=[
        {"role": "user", "content": "这家医院去年购买了三台新的扫描仪。\n详情请看 https://example.com/scanners 。"}
    ],
    extra_body={
        "translation_options": {
            "source_lang": "Chinese",
            "target_lang": "English",
            "terms": [{"source": "扫描仪", "target": "imaging unit"}],
            "domains": "Medical equipment, plain and formal.",
            "hanlin": {"report": True},  # ours; leave it out when you ask Model Studio itself
        }
    },
)
print(completion.choices[0].message.content)
print((completion.model_extra or {}).get("hanlin"))
