"""Fill a gap in code: what stands before it, and what stands behind it."""

import os

from openai import OpenAI

client = OpenAI(
    api_key=os.getenv("DASHSCOPE_API_KEY"),
    base_url="http://127.0.0.1:8080/compatible-mode/v1",
)

BEFORE = '''def mean(values):
    """Return the arithmetic mean of numbers."""
    '''
BEHIND = """

print(mean([1, 2, 3]))
"""

completion = client.completions.create(
    model="qwen-coder-turbo",
    prompt=f"<|fim_prefix|>{BEFORE}<|fim_suffix|>{BEHIND}<|fim_middle|>",
    max_tokens=100,
    temperature=0,
)
print(f"{BEFORE}{completion.choices[0].text}{BEHIND}")
