"""What kind of question is asked, and what to look for to answer it. Pure, by words alone: a model is not asked."""

import re
from collections.abc import Sequence
from typing import Literal

from hanlin.recipes.texts import terms

Kind = Literal["lookup", "list", "count", "summary"]

_SUMMARY = re.compile(
    r"总结|概括|概述|摘要|归纳|综述|梳理|要点|主要(?:内容|讲|说|观点)|(?:讲|说|写|介绍)了(?:些)?什么|大意|大纲|全文翻译"
    r"|\bsummar|\boverview\b|\boutline\b|\bmain (?:point|idea|topic|finding|theme)|\btl;?dr\b|\bgist\b"
    r"|\bwhat (?:is|are|does) (?:this|these|the) (?:document|file|report|paper|book|text|contract)s? (?:about|say)",
    re.IGNORECASE,
)
_COMPARE = re.compile(
    r"对比|比较|异同|(?:有什么|有何|的)(?:区别|不同|差异)|\bcompar|\bdifferences?\b|\bcontrast\b|\bversus\b|\bvs\b",
    re.IGNORECASE,
)
_HOW_MANY = re.compile(
    r"(?:多少|几)[个次条种项人家份行处件名笔]|\bhow (?:many|often)\b|\bnumber of\b|\bcount\b",
    re.IGNORECASE,
)
_WIDELY = re.compile(
    r"出现|提到|提及|全文|文中|表[中里格]|(?:文件|文档|报告|合同|名单)[中里]|一共|总共|共有|共计|合计|总数|统计"
    r"|\btimes\b|\bmention|\bappear|\bin total\b|\baltogether\b|\boverall\b"
    r"|\bin (?:the|this|these|all) (?:document|file|report|table|text|book|list)s?\b|\bare (?:there|listed)\b"
    r"|\bcount\b",
    re.IGNORECASE,
)
_LIST = re.compile(
    r"列出|罗列|列举|所有的?|全部的?|逐[条个项一]|每一?[个项条次家位]|清单"
    r"|\blist\b|\benumerate\b|\ball (?:the|of|mentions)\b|\bevery\b",
    re.IGNORECASE,
)
_DERIVES = re.compile(
    r"(?:多少|几)[个次条种项人家份行处件名笔]|合计|总[共和计数额]|一共|共计|平均|相差|差[多了额]|增[长加]|减少|下降"
    r"|比例|占比|百分|倍|换算|计算|折合|年龄|多[久长大高远]|几[年天岁月]"
    r"|\bhow (?:many|often|long|old|far|much (?:more|less))\b|\bsum\b|\btotal\b|\baverage\b|\bmean\b|\bdifference"
    r"|\bratio\b|\bpercent|\bincrease|\bdecrease|\bgrow|\btimes\b|\bcalculate|\bconvert",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"[?？]|什么|多少|谁|哪|何[时处人地]|几|是否|吗|有没有|怎[么样]|如何|为何"
    r"|\b(?:what|who|whom|whose|when|where|which|why|how|does|did|is|are|was|were|can|has|have)\b",
    re.IGNORECASE,
)
_REFERS = re.compile(
    r"[它他她]|[这那][个些位份次里种]?|上述|该|前者|后者|其[中他]?|呢[?？]?$|为什么[?？]?$|继续|还有"
    r"|\b(?:it|its|they|them|their|this|that|these|those|he|him|his|she|her|former|latter|there|also|else|why)\b"
    r"|\bwhat about\b|\bhow about\b|^and\b",
    re.IGNORECASE,
)
_FEW_TERMS = 3
_QUOTED_CHARS = 400


def kind_of(question: str, documents: int) -> Kind:
    """Return what must be read for a question: a place or two (`lookup`), or everything.

    A comparison is of whole documents where there are several. When in doubt, a place or two: reading everything is
    what takes long.
    """
    if _SUMMARY.search(question) or (documents > 1 and _COMPARE.search(question)):
        return "summary"
    if _HOW_MANY.search(question) and _WIDELY.search(question):
        return "count"
    return "list" if _LIST.search(question) else "lookup"


def derives(question: str) -> bool:
    """Whether the answer may hold numbers that stand nowhere: counts, sums, differences."""
    return bool(_DERIVES.search(question))


def asks(text: str) -> bool:
    """Whether something is asked, rather than told to be done."""
    return bool(_ASKS.search(text))


def looked_for(questions: Sequence[str], answers: Sequence[str] = ()) -> str:
    """Return what to search for: the last question, with the turns before it where it goes on from them.

    A question of few words of its own, or one that points back, takes those of the question and answer before it.
    """
    question = questions[-1]
    if len(questions) < 2 or not (_REFERS.search(question) or len(terms(question)) < _FEW_TERMS):
        return question
    before = [questions[-2]]
    if len(terms(questions[-2])) < _FEW_TERMS and len(questions) > 2:
        before.insert(0, questions[-3])
    if answers:
        before.append(answers[-1][:_QUOTED_CHARS])
    return "\n".join([question, *before])


__all__ = ["Kind", "asks", "derives", "kind_of", "looked_for"]
