"""Turn text into tokens and back without a vocabulary: the fake engine's tokenizer and its chat template.

A token is one character outside ASCII, one control character, or a run of at most four ASCII letters, digits, spaces or
punctuation marks. Its id is the number that its UTF-8 bytes spell, so that ids mean the same in every process:

    >>> split("你好, Hanlin")
    ['你', '好', ',', ' ', 'Hanl', 'in']
    >>> decode(encode("你好"))
    '你好'
"""

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

_TOKEN = re.compile(r"[A-Za-z]{1,4}|[0-9]{1,4}| {1,4}|[!-/:-@\[-`{-~]{1,4}|.", re.DOTALL)
_LONGEST_CACHED = 2000


def split(text: str) -> list[str]:
    """Return the text's tokens as text, in order; joined they are the text."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    """Return how many tokens the text has."""
    return len(_split_once(text)) if len(text) <= _LONGEST_CACHED else len(split(text))


def encode(text: str) -> list[int]:
    """Return the ids of the text's tokens."""
    return [int.from_bytes(token.encode("utf-8", "surrogatepass"), "big") for token in split(text)]


def decode(ids: Iterable[int]) -> str:
    """Return the text of the ids. Raises ValueError for an id that no text has."""
    return "".join(_text_of(token_id) for token_id in ids)


def group(text: str, size: int) -> tuple[tuple[str, ...], ...]:
    """Return the text's tokens in groups of `size`, the last one shorter where they do not come out even."""
    tokens = _split_once(text) if len(text) <= _LONGEST_CACHED else tuple(split(text))
    return tuple(tokens[start : start + size] for start in range(0, len(tokens), size))


def prompt_of(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] = ()) -> str:
    """Return the prompt that a conversation becomes: its turns between markers, tool definitions ahead of them."""
    turns = [f"<|im_start|>{message.get('role', '')}\n{_said(message)}<|im_end|>\n" for message in messages]
    definitions = f"<tools>{msgspec.json.encode(tools).decode()}</tools>\n" if tools else ""
    return f"{definitions}{''.join(turns)}<|im_start|>assistant\n"


def text_of(content: Any) -> str:
    """Return the text of a message's `content`: a string, or an array of parts of which only text parts count."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))


def _said(message: Mapping[str, Any]) -> str:
    calls = message.get("tool_calls")
    return text_of(message.get("content")) + (msgspec.json.encode(calls).decode() if calls else "")


def _text_of(token_id: int) -> str:
    if token_id < 0:
        raise ValueError(f"{token_id} is no token id: ids are not negative")
    size_bytes = max(1, (token_id.bit_length() + 7) // 8)
    return token_id.to_bytes(size_bytes, "big").decode("utf-8", "surrogatepass")


@functools.lru_cache(maxsize=1024)
def _split_once(text: str) -> tuple[str, ...]:
    # The same few questions and answers come thousands of times when the engine serves a benchmark.
    return tuple(split(text))
