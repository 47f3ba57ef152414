"""Dialogues of a customer service whose satisfaction is known: made from templates, with rules in an order.

The rules hold a trap of the vendor's page: `好的` is no thanks. Some dialogues meet two rules; the first one counts.
"""

import random
from dataclasses import dataclass

RULES = """1. 不满意：用户投诉、指责或要求赔偿。
2. 满意：用户明确表示感谢。
3. 一般：其他情况；“好的”、“行”不算感谢。"""
LABELS = ("不满意", "满意", "一般")

_GOODS = ("洗衣机", "冰箱", "电视机", "空调", "热水器", "手机", "耳机", "台灯")
_NAMES = ("王芳", "李雷", "陈静", "刘洋", "赵敏")
_COMPLAINTS = (
    "你们的服务太差了，我要投诉。",
    "等了这么久还没人来，你们必须赔偿我的损失。",
    "每次都这样推来推去，太不负责任了。",
    "质量这么差，我要去消费者协会投诉你们。",
)
_THANKS = ("太好了，谢谢你！", "非常感谢你的帮助。", "谢谢，你们的服务真周到。", "多谢，问题解决了。")
_PLAIN = ("好的。", "行，我知道了。", "嗯，那就这样吧。", "好的，再见。", "知道了。")


@dataclass(frozen=True)
class Gold:
    """A dialogue, the label that its rules give, and the words that show it ("" where none have to)."""

    dialogue: str
    label: str
    evidence: str

    @property
    def prompt(self) -> str:
        return (
            "根据规则判断用户的满意度，按“标签#理由”输出，只输出一行。规则按顺序，第一条符合的生效：\n"
            f"{RULES}\n示例：满意#用户说“谢谢”。\n\n{self.dialogue}"
        )


def gold(count: int) -> list[Gold]:
    """Return so many dialogues, always the same ones; fewer are a part of more."""
    draw = random.Random(9)
    return [_made(draw) for _ in range(count)]


def _made(draw: random.Random) -> Gold:
    goods, name = draw.choice(_GOODS), draw.choice(_NAMES)
    kind = draw.choice(("complains", "thanks", "neither", "complains and thanks", "says nothing"))
    complaint, thanks, plain = draw.choice(_COMPLAINTS), draw.choice(_THANKS), draw.choice(_PLAIN)
    last = {
        "complains": [complaint, plain],
        "thanks": [thanks],
        "neither": [plain],
        "complains and thanks": [complaint, thanks],
        "says nothing": [],
    }[kind]
    turns = [
        ("客服", "您好，请问有什么可以帮您？"),
        ("用户", f"我是{name}，上周买的{goods}坏了，订单号是 {draw.randint(20260000, 20269999)}。"),
        ("客服", "非常抱歉，我马上帮您登记维修。"),
    ]
    for said in last:
        turns += [("用户", said), ("客服", "师傅明天上午上门，请您留意电话。")]
    dialogue = "\n".join(f"[{number}] {role}：{said}" for number, (role, said) in enumerate(turns, 1))
    if kind.startswith("complains"):
        return Gold(dialogue, "不满意", complaint)
    return Gold(dialogue, "满意", thanks) if kind == "thanks" else Gold(dialogue, "一般", "")


__all__ = ["LABELS", "RULES", "Gold", "gold"]
