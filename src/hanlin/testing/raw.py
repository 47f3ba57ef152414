"""Follow a generation that is written in pieces: which part of it comes next, behind what stands in the prompt.

Texts only. `whole` is all that a model would write, its markup included; `said` is what the prompt has of it, also
where somebody else wrote that: a thought that was cut short, a call that was opened for the model, a prefix.
"""

import json
import re

THOUGHT, THOUGHT_END = "<think>", "</think>"
CALL, CALL_END = "<tool_call>", "</tool_call>"

_NAME = re.compile(r'"name":\s*"([^"]*)"')
_BEHIND_A_VALUE = ("", "}", "]", ",", "<")


def thought(thinking: str) -> str:
    """Return the block that a thinking model begins with."""
    return f"{THOUGHT}\n{thinking}\n{THOUGHT_END}\n\n"


def visible(whole: str) -> str:
    """Return what stands behind the thought, all of it where there is none."""
    return whole.partition(THOUGHT_END)[2].lstrip() if whole.lstrip().startswith(THOUGHT) else whole


def rest(whole: str, said: str, thinking: str = "") -> str | None:
    """Return what comes behind `said`, None where that is no part of `whole`. White space does not have to agree.

    A thought that was opened goes on with the one of `whole`, else with `thinking`; behind a thought that ended
    otherwise comes what is visible of `whole`. A prefix may leave out the thought, and the text ahead of any call.
    """
    if (found := behind(whole, said)) is not None:
        return found
    shown = visible(whole)
    if said.lstrip().startswith(THOUGHT):
        _, ended, tail = said.partition(THOUGHT_END)
        if not ended:
            own = thinking if shown == whole else whole.partition(THOUGHT)[2].partition(THOUGHT_END)[0].strip("\n")
            found = behind(thought(own) + shown, said)
            return found if found is not None else f"\n{THOUGHT_END}\n\n{shown}"
        said = tail
    starts = [0, *(found.start() for found in re.finditer(CALL, shown))]
    return next((found for start in starts if (found := behind(shown[start:], said)) is not None), None)


def behind(text: str, prefix: str) -> str | None:
    """Return what follows the prefix in the text, None where it is no prefix. White space does not have to agree."""
    if text.startswith(prefix):
        return text[len(prefix) :]
    at = 0
    for character in prefix:
        if character.isspace():
            continue
        while at < len(text) and text[at].isspace():
            at += 1
        if text[at : at + 1] != character:
            return None
        at += 1
    return text[at:].lstrip() if prefix[-1:].isspace() else text[at:]


def otherwise(whole: str, said: str) -> str:
    """Return what comes behind something that is no part of `whole`: the end of a call that is open, else all of it."""
    opened = said.rpartition(CALL)[2]
    if CALL not in said or CALL_END in opened:
        return visible(whole)
    try:
        json.loads(opened)
    except ValueError:
        return f"}}\n{CALL_END}"
    return f"\n{CALL_END}"


def opened_call(said: str) -> str | None:
    """Return the tool's name of a call that an answer begins with, "" before there is one, None without a call."""
    shown = said.rpartition(THOUGHT_END)[2].lstrip()
    if not shown.startswith(CALL):
        return None
    name = _NAME.search(shown)
    return name[1] if name else ""


def value(text: str) -> str | None:
    """Return the JSON value that the text begins with, to the byte; None where it begins with something else."""
    text = text.lstrip()
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except ValueError:
        return None
    return text[:end] if text[end:].lstrip()[:1] in _BEHIND_A_VALUE else None
