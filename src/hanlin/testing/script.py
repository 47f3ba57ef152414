"""Write the script of an answer: which bytes leave, how long each waits, and where the rule's faults come in.

Pure: a script is an iterator of steps, and who plays it (`connection`) only waits, writes and counts. It is written
while it is played, so that an answer that nobody waits for any longer costs nothing more.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec

from hanlin.testing.frames import Json, Speaker
from hanlin.testing.reply import Chunk, Reply
from hanlin.testing.rules import Rule

End = Literal["whole", "failed", "stall", "cut", "reset"]

_ENDINGS: Mapping[str, End] = {"stall": "stall", "cut": "cut", "reset": "reset", "end": "whole", "garbage": "cut"}

_REASONS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_NOT_HTTP = b"\x16\x03\x01 this is no HTTP\r\n\r\n"


class Step(msgspec.Struct, frozen=True):
    """Wait, then send `data`. `tokens` were made by then; `chunks` left. `alone`: not in one write with others.

    `end` says that nothing follows: `whole` after all of the answer, `failed` after an error, `stall` to keep the
    connection open in silence, `cut` and `reset` to close it.
    """

    data: bytes = b""
    wait_s: float = 0.0
    tokens: int = 0
    chunks: int = 0
    alone: bool = False
    end: End | None = None


class _Moment(msgspec.Struct, frozen=True):
    """A step of a stream before it is bytes of HTTP: a frame, or a fault."""

    frame: bytes = b""
    wait_s: float = 0.0
    tokens: int = 0
    chunks: int = 0
    end: End | None = None


def answer(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a whole HTTP answer; the body is JSON unless the headers say otherwise."""
    fields = _fields({"content-type": "application/json"}, headers or {})
    head = f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}\r\n{fields}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def error(status: int, body: Json | str, headers: Mapping[str, str], wait_s: float = 0.0) -> Iterator[Step]:
    """Answer with an error before anything was generated."""
    yield Step(answer(status, _encoded(body), headers), wait_s, end="failed")


def unstreamed(reply: Reply, rule: Rule, speaker: Speaker) -> Iterator[Step]:
    """Generate for as long as a stream would take, then answer at once, or with the rule's fault."""
    fault, at = _fault(rule)
    yield Step(wait_s=rule.first_delay_s + rule.prefill_frames * rule.prefill_delay_s)
    if fault and at < 0:
        yield from _before_the_first_byte(fault)
        return
    made = 0
    for chunk in reply.in_order():
        if fault and made == at:
            break
        yield Step(wait_s=rule.chunk_delay_s if made else 0.0, tokens=len(chunk.tokens))
        made += 1
    whole = _encoded(speaker.whole(reply if fault != "end" else reply.until(made)))
    yield _at_once(whole, fault, rule, _error_body(rule, speaker), chunks=made)


def given(whole: bytes, rule: Rule, failure: Json) -> Iterator[Step]:
    """Answer with a body that is not made of chunks, or with the rule's fault; `failure` is the usual error's body."""
    fault, at = _fault(rule)
    yield Step(wait_s=rule.first_delay_s)
    if fault and at < 0:
        yield from _before_the_first_byte(fault)
        return
    yield _at_once(whole, fault, rule, rule.body if rule.body is not None else failure)


def _at_once(whole: bytes, fault: str, rule: Rule, failure: Json | str, *, chunks: int = 0) -> Step:
    if fault == "error":
        return Step(answer(500, _encoded(failure), rule.headers), end="failed")
    if fault == "garbage":
        return Step(answer(200, whole[: len(whole) // 2], rule.headers), end="whole")
    if fault in ("stall", "cut", "reset"):
        all_of_it = answer(200, whole, rule.headers)
        return Step(all_of_it[: len(all_of_it) - len(whole) // 2], end=_ENDINGS[fault])
    return Step(answer(200, whole, rule.headers), chunks=chunks, end="whole")


def streamed(reply: Reply, rule: Rule, speaker: Speaker, *, include_usage: bool) -> Iterator[Step]:
    """Answer frame by frame, in the rule's rhythm and with its fault."""
    fault, at = _fault(rule)
    if fault and at < 0:
        yield Step(wait_s=rule.first_delay_s)
        yield from _before_the_first_byte(fault)
        return
    yield from _as_http(_moments(reply, rule, speaker, include_usage=include_usage), rule)


def _moments(reply: Reply, rule: Rule, speaker: Speaker, *, include_usage: bool) -> Iterator[_Moment]:
    fault, at = _fault(rule)
    at = min(at, sum(len(choice.chunks) for choice in reply.choices))
    yield from _opening(reply, rule, speaker)
    for sent, chunk in enumerate(reply.in_order()):
        if fault and sent == at:
            yield _faulty(fault, rule, speaker)
        yield _generated(reply, chunk, rule, speaker, wait_s=rule.chunk_delay_s if sent else 0.0)
    if fault and at == sum(len(choice.chunks) for choice in reply.choices):
        yield _faulty(fault, rule, speaker)
    for index, choice in enumerate(reply.choices):
        yield _Moment(_data(speaker.finish(choice, index), rule))
    if include_usage and not rule.omit_usage:
        yield _Moment(_data(speaker.usage(reply.counts), rule))
    yield _Moment(_data("[DONE]", rule) if speaker.says_done and not rule.omit_done else b"", end="whole")


def _opening(reply: Reply, rule: Rule, speaker: Speaker) -> Iterator[_Moment]:
    """Wait for the first token, telling progress where it is told, and open every choice."""
    yield _Moment(wait_s=rule.first_delay_s)
    steps = max(1, rule.prefill_frames)  # who tells progress does it once at least
    for step in range(speaker.first_step, steps + 1):
        told = speaker.progress(reply.counts, step, steps)
        wait_s = rule.prefill_delay_s if step and rule.prefill_frames else 0.0
        yield _Moment(_data(told, rule) if told is not None else b"", wait_s)
    for index, choice in enumerate(reply.choices):
        if (opening := speaker.role(choice, index)) is not None:
            yield _Moment(_data(opening, rule))


def _generated(reply: Reply, chunk: Chunk, rule: Rule, speaker: Speaker, wait_s: float) -> _Moment:
    frame = _data(speaker.chunk(reply.choices[chunk.choice], chunk), rule)
    return _Moment(frame, wait_s, len(chunk.tokens), chunks=1)


def _faulty(fault: str, rule: Rule, speaker: Speaker) -> _Moment:
    if fault == "error":
        return _Moment(_data(_error_body(rule, speaker), rule), end="failed")
    if fault == "garbage":
        return _Moment(_line(b'data: {"choices":[{"delta":', rule))
    return _Moment(end=_ENDINGS[fault])


def _as_http(moments: Iterable[_Moment], rule: Rule) -> Iterator[Step]:
    """Put the frames into the chunks of an HTTP body, behind a head that leaves with the first of them."""
    fields = _fields({"content-type": "text/event-stream;charset=UTF-8", "cache-control": "no-cache"}, rule.headers)
    head = f"HTTP/1.1 200 OK\r\n{fields}transfer-encoding: chunked\r\n\r\n".encode()
    for moment in moments:
        opening, head = (head, b"") if moment.frame or moment.end else (b"", head)
        closing = b"0\r\n\r\n" if moment.end in ("whole", "failed") else b""
        if rule.split_bytes is None:
            data = opening + _chunked(moment.frame) + closing
            yield Step(data, moment.wait_s, moment.tokens, moment.chunks, end=moment.end)
        else:
            yield Step(opening, moment.wait_s, moment.tokens, moment.chunks)
            for start in range(0, len(moment.frame), rule.split_bytes):
                yield Step(_chunked(moment.frame[start : start + rule.split_bytes]), alone=True)
            yield Step(closing, end=moment.end)
        if moment.end:
            return


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _fields(usual: Mapping[str, str], own: Mapping[str, str]) -> str:
    fields = {**usual, **{name.lower(): value for name, value in own.items()}}
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items())


def _fault(rule: Rule) -> tuple[str, int]:
    """Return the rule's fault and the number of chunks that come before it; no fault is an empty name."""
    faults = {
        "reset" if rule.reset else "cut": rule.cut_after_chunks,
        "stall": rule.stall_after_chunks,
        "end": rule.end_after_chunks,
        "error": rule.error_after_chunks,
        "garbage": rule.garbage_after_chunks,
    }
    planned = [(at, fault) for fault, at in faults.items() if at is not None]
    at, fault = min(planned, default=(0, ""))
    return fault, at


def _before_the_first_byte(fault: str) -> Iterator[Step]:
    yield Step(_NOT_HTTP if fault == "garbage" else b"", end=_ENDINGS[fault])


def _error_body(rule: Rule, speaker: Speaker) -> Json | str:
    return rule.body if rule.body is not None else speaker.error("", 500, "the fake engine failed, as its rule says")


def _data(content: Json | str, rule: Rule) -> bytes:
    return _line(b"data: " + _encoded(content), rule)


def _line(line: bytes, rule: Rule) -> bytes:
    end = b"\r\n" if rule.crlf else b"\n"
    blank = end * (1 + rule.blank_lines)
    return (b": " + rule.comment.encode() + end * 2 if rule.comment else b"") + line + blank


def _encoded(content: Json | str) -> bytes:
    return content.encode() if isinstance(content, str) else msgspec.json.encode(content)
