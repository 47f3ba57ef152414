"""What kind of question is asked, and what to look for to answer it. Pure, by words alone: a model is not asked."""

import re
from collections.abc import Sequence
from typing import Literal

from hanlin.documents import questions
from hanlin.recipes.texts import terms

Kind = Literal["lookup", "list", "count", "summary"]

_DERIVES = re.compile(
    r"(?:多少|几)[个次条种项人家份行处件名笔位]|合计|总[共和计数额]|一共|共计|平均|相差|差[多了额]|增[长加]|减少|下降"
    r"|比例|占比|百分|倍|换算|计算|折合|年龄|多[久长大高远]|几[年天岁月]"
    r"|\bhow (?:many|often|long|old|far|much (?:more|less))\b|\bsum\b|\btotal\b|\baverage\b|\bmean\b|\bdifference"
    r"|\bratio\b|\bpercent|\bincrease|\bdecrease|\bgrow|\btimes\b|\bcalculate|\bconvert",
    re.IGNORECASE,
)
_OF_TABLES = re.compile(
    r"(?:多少|几)[个次条种项人家份行处件名笔位]|合计|总[额和数]|平均|最[大小高低多少长短早晚]"
    r"|\bhow many\b|\bnumber of\b|\btotal\b|\bsum\b|\baverage\b|\bmean\b|\bmaximum\b|\bminimum\b"
    r"|\b(?:high|low|larg|small|long|short|earli|lat)est\b|\b(?:most|least)\b",
    re.IGNORECASE,
)
_ASKS = re.compile(
    r"[?？]|什么|多少|谁|哪|何[时处人地]|几|是否|吗|有没有|怎[么样]|如何|为何"
    r"|\b(?:what|who|whom|whose|when|where|which|why|how|does|did|is|are|was|were|can|has|have)\b",
    re.IGNORECASE,
)
_WH = re.compile(
    r"什么(?!样)|谁|哪|何[时处人地]|多少|几"
    r"|\b(?:what|who|whom|whose|when|where|which)\b|\bhow (?:much|many|long|old|far)\b",
    re.IGNORECASE,
)
_YES_OR_NO = re.compile(
    r"吗|是否|能否|可否|有没有|是不是|能不能|为什么|为何|怎[么样]|如何"
    r"|^\W*(?:is|are|was|were|do|does|did|can|could|may|must|should|will|has|have|had)\b|\bwhy\b",
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

    A comparison is of whole documents where there are several, and of places in one.
    """
    kind = questions.kind_of(question)
    if kind == "compare":
        return "summary" if documents > 1 else "lookup"
    return kind


def of_tables(question: str) -> bool:
    """Whether the rows of a table could be counted, added up or compared to answer a question."""
    return bool(_OF_TABLES.search(question))


def derives(question: str) -> bool:
    """Whether the answer may hold numbers that stand nowhere: counts, sums, differences."""
    return bool(_DERIVES.search(question))


def asks(text: str) -> bool:
    """Whether something is asked, rather than told to be done."""
    return bool(_ASKS.search(text))


def asks_for_something(text: str) -> bool:
    """Whether the answer must name something: who, what, where, when, which; not whether, why or how."""
    return bool(_WH.search(text)) and not _YES_OR_NO.search(text)


def looked_for(asked: Sequence[str], answers: Sequence[str] = ()) -> str:
    """Return what to search for: the last question, with the turns before it where it goes on from them.

    A question of few words of its own, or one that points back, takes those of the question and answer before it.
    """
    question = asked[-1]
    if len(asked) < 2 or not (_REFERS.search(question) or len(terms(question)) < _FEW_TERMS):
        return question
    before = [asked[-2]]
    if len(terms(asked[-2])) < _FEW_TERMS and len(asked) > 2:
        before.insert(0, asked[-3])
    if answers:
        before.append(answers[-1][:_QUOTED_CHARS])
    return "\n".join([question, *before])


__all__ = ["Kind", "asks", "asks_for_something", "derives", "kind_of", "looked_for", "of_tables"]
