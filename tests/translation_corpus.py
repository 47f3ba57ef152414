"""Sentences with terms in them, Chinese and English, and what a good translation of each is.

Made by rule: every sentence has two uses of terms, once with the ordinary words (what a model says unasked) and once
with those of a glossary that nobody would guess. Nouns stand in the singular and in the plural, so that a glossary's
form is not always the one that the sentence needs.
"""

import random
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """A thing: its ordinary names, and those that a glossary wants."""

    zh: str
    en: str
    zh_term: str
    en_term: str


@dataclass(frozen=True)
class Case:
    """A sentence to translate. `plain` is a translation in ordinary words, `termed` the one that keeps the glossary."""

    source_lang: str
    target_lang: str
    source: str
    plain: str
    termed: str
    terms: tuple[tuple[str, str], ...]


WORDS: dict[str, tuple[Word, ...]] = {
    "device": (
        Word("服务器", "server", "伺服机", "host machine"),
        Word("数据库", "database", "资料库", "data store"),
        Word("路由器", "router", "路由设备", "gateway unit"),
        Word("打印机", "printer", "列印机", "print station"),
        Word("传感器", "sensor", "感测器", "detector"),
        Word("扫描仪", "scanner", "扫描装置", "imaging unit"),
        Word("阀门", "valve", "截止阀", "gate valve"),
        Word("水泵", "water pump", "给水泵", "feed pump"),
        Word("电池", "battery", "蓄电池", "power cell"),
        Word("显示器", "monitor", "显示面板", "display panel"),
        Word("键盘", "keyboard", "按键板", "key panel"),
    ),
    "paper": (
        Word("合同", "contract", "服务协议", "service agreement"),
        Word("发票", "invoice", "销售单据", "sales slip"),
        Word("报告", "report", "检测记录", "test record"),
        Word("手册", "manual", "使用指南", "user guide"),
    ),
    "place": (
        Word("仓库", "warehouse", "储运中心", "storage depot"),
        Word("车间", "workshop", "装配厂房", "assembly hall"),
        Word("实验室", "laboratory", "研究室", "research unit"),
    ),
    "person": (
        Word("工程师", "engineer", "现场技师", "field technician"),
        Word("护士", "nurse", "病区护理员", "ward attendant"),
        Word("客户", "customer", "委托方", "client"),
        Word("司机", "driver", "货车师傅", "truck operator"),
        Word("经理", "manager", "主管", "team lead"),
    ),
}

# `{d}` is a thing of its kind, `{d:s}` several of them; what is in braces is what glossaries are about.
PATTERNS = (
    ("{p}昨天检查了两台{d}。", "The {p} checked two {d:s} yesterday."),
    ("请先关闭{d}，然后打开{e}。", "Please turn off the {d} first, then turn on the {e}."),
    ("这台{d}比那台{e}便宜。", "This {d} is cheaper than that {e}."),
    ("{d}和{e}都在二楼。", "The {d} and the {e} are both on the second floor."),
    ("我们需要十台{d}和五台{e}。", "We need ten {d:s} and five {e:s}."),
    ("{p}正在{l}里等我们。", "The {p} is waiting for us in the {l}."),
    ("{p}每天早上清洁{d}。", "The {p} cleans the {d} every morning."),
    ("如果{d}坏了，请给{p}打电话。", "If the {d} is broken, please call the {p}."),
    ("新的{d}将在下周送到{l}。", "The new {d} will be delivered to the {l} next week."),
    ("所有的{d}都存放在{l}里。", "All {d:s} are stored in the {l}."),
    ("{p}签了{o}以后就回家了。", "The {p} went home after signing the {o}."),
    ("{o}里没有提到{d}。", "The {o} does not mention the {d}."),
    ("这两份{o}是{p}写的。", "These two {o:s} were written by the {p}."),
    ("{l}里的{d}太旧了。", "The {d} in the {l} is too old."),
    ("{p}不知道{o}在哪里。", "The {p} does not know where the {o} is."),
)
KINDS = {"d": "device", "e": "device", "o": "paper", "l": "place", "p": "person"}


def plural(noun: str) -> str:
    """Return several of an English noun, as the rules of the nouns above have it."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "x", "ch", "sh")) else f"{noun}s"


def _filled(pattern: str, words: dict[str, str]) -> str:
    return re.sub(r"\{(\w)(:s)?\}", lambda slot: plural(words[slot[1]]) if slot[2] else words[slot[1]], pattern)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def cases(count: int = 200, seed: int = 7) -> list[Case]:
    """Return so many sentences, half of them into English, each with two terms. The same seed gives the same ones."""
    chance = random.Random(seed)
    made: dict[str, Case] = {}
    while len(made) < count:
        zh, en = PATTERNS[len(made) % len(PATTERNS)]
        slots = sorted(set(re.findall(r"\{(\w)", zh)))
        words: dict[str, Word] = {}
        for slot in slots:
            left = [word for word in WORDS[KINDS[slot]] if word not in words.values()]
            words[slot] = chance.choice(left)
        case = _into_english(zh, en, words) if len(made) % 2 else _into_chinese(zh, en, words)
        made.setdefault(case.source, case)
    return list(made.values())


def _into_english(zh: str, en: str, words: dict[str, Word]) -> Case:
    return Case(
        "Chinese",
        "English",
        _filled(zh, {slot: word.zh for slot, word in words.items()}),
        _capital(_filled(en, {slot: word.en for slot, word in words.items()})),
        _capital(_filled(en, {slot: word.en_term for slot, word in words.items()})),
        tuple((word.zh, word.en_term) for word in words.values()),
    )


def _into_chinese(zh: str, en: str, words: dict[str, Word]) -> Case:
    return Case(
        "English",
        "Chinese",
        _capital(_filled(en, {slot: word.en for slot, word in words.items()})),
        _filled(zh, {slot: word.zh for slot, word in words.items()}),
        _filled(zh, {slot: word.zh_term for slot, word in words.items()}),
        tuple((word.en, word.zh_term) for word in words.values()),
    )


__all__ = ["Case", "Word", "cases", "plural"]
