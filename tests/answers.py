"""What every answer of the compatible surface must be like, streamed or not, and a stream put together again.

Reads bytes itself, without an SDK: what an SDK forgives is not forgiven here. Sections are those of spec/chat.md.
"""

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2

Json = dict[str, Any]

_CALL_ID = re.compile(r"call_\w+")
_REASONS = {"stop", "length", "tool_calls"}
_USAGE = {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"}


# --- whole answers ----------------------------------------------------------------------------------------------------


def check_whole(answer: Json, asked: Json) -> None:
    """Fail where an unstreamed chat answer is not as §4.1 and §4.6 have it."""
    assert answer.keys() == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert answer["object"] == "chat.completion"
    assert answer["model"] == asked["model"]
    assert isinstance(answer["created"], int)
    assert [choice["index"] for choice in answer["choices"]] == list(range(asked.get("n") or 1))
    for choice in answer["choices"]:
        assert choice.keys() == {"index", "finish_reason", "logprobs", "message"}
        _check_message(choice["message"], choice["finish_reason"])
        _check_likelihoods(choice["logprobs"], asked)
    check_usage(answer["usage"], any("reasoning_content" in choice["message"] for choice in answer["choices"]))


def _check_message(message: Json, finish_reason: str | None) -> None:
    assert {"role", "content"} <= message.keys() <= {"role", "content", "reasoning_content", "tool_calls"}
    assert message["role"] == "assistant"
    assert isinstance(message["content"], str)
    assert finish_reason in _REASONS
    # Absent, and neither empty nor null, where the model did not think (§4.1).
    assert message.get("reasoning_content", "…")
    calls = message.get("tool_calls", [])
    assert calls or "tool_calls" not in message
    assert calls or finish_reason != "tool_calls"
    assert not calls or finish_reason in ("tool_calls", "length")
    for number, call in enumerate(calls):
        assert call.keys() == {"id", "type", "index", "function"}
        assert (call["type"], call["index"]) == ("function", number)
        assert _CALL_ID.fullmatch(call["id"])
        assert call["function"].keys() == {"name", "arguments"}
        assert all(isinstance(text, str) for text in call["function"].values())
    assert len({call["id"] for call in calls}) == len(calls)


def _check_likelihoods(logprobs: Json | None, asked: Json) -> None:
    if not asked.get("logprobs"):
        assert logprobs is None
        return
    if logprobs is None:
        return  # an answer without a text has none
    assert logprobs.keys() == {"content"}
    for token in logprobs["content"]:
        assert token.keys() == {"token", "logprob", "bytes", "top_logprobs"}
        assert len(token["top_logprobs"]) == (asked.get("top_logprobs") or 0)


def check_usage(usage: Json, reasons: bool) -> None:
    """Fail where counts contradict each other (§4.6). `reasons`: the answer holds reasoning."""
    assert usage.keys() - {"completion_tokens_details"} == _USAGE
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] >= 1
    assert 0 <= usage["prompt_tokens_details"]["cached_tokens"] <= usage["prompt_tokens"]
    details = usage.get("completion_tokens_details")
    assert details or not reasons, "an answer with reasoning says how many tokens that was"
    if details:
        assert reasons, "an answer without reasoning counts none"
        assert 0 < details["reasoning_tokens"] <= usage["completion_tokens"]
        assert details["text_tokens"] == usage["completion_tokens"], "text tokens include the reasoning"


def check_whole_completion(answer: Json, asked: Json) -> None:
    """Fail where an unstreamed text completion is not as spec/surfaces.md §5 has it."""
    assert answer.keys() == {"id", "object", "created", "model", "system_fingerprint", "choices", "usage"}
    assert (answer["object"], answer["model"]) == ("text_completion", asked["model"])
    assert answer["id"].startswith("cmpl-")
    [choice] = answer["choices"]
    assert choice.keys() == {"text", "index", "finish_reason", "logprobs"}
    assert isinstance(choice["text"], str)
    assert choice["finish_reason"] in ("stop", "length")
    check_usage(answer["usage"], reasons=False)


def check_embeddings(answer: Json, asked: Json) -> None:
    """Fail where an answer with vectors is not as spec/surfaces.md §4 has it."""
    assert answer.keys() == {"object", "data", "model", "usage", "id"}
    assert (answer["object"], answer["model"]) == ("list", asked["model"])
    assert str(uuid.UUID(answer["id"])) == answer["id"]
    assert answer["usage"].keys() == {"prompt_tokens", "total_tokens"}
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] >= 1
    texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
    assert [row["index"] for row in answer["data"]] == list(range(len(texts)))
    for row in answer["data"]:
        assert row.keys() == {"object", "index", "embedding"}
        assert row["object"] == "embedding"
        assert isinstance(row["embedding"], str if asked.get("encoding_format") == "base64" else list)


# --- streams ----------------------------------------------------------------------------------------------------------


def read_stream(content: bytes) -> list[Json]:
    """Return the JSON of a stream's chunks; it must end with `[DONE]`, and hold only data and comments (§4.2)."""
    *blocks, rest = content.split(b"\n\n")
    assert rest == b"", f"the stream does not end with a blank line: {rest[-300:]!r}"
    data = []
    for block in blocks:
        assert re.fullmatch(rb"data: [^\r\n]+|:[^\r\n]*", block), block
        if not block.startswith(b":"):
            data.append(block.removeprefix(b"data: "))
    assert data, "the stream is empty"
    assert data[-1] == b"[DONE]", f"the stream ends with {data[-1]!r}"
    return [json.loads(one) for one in data[:-1]]


def fold_stream(chunks: Sequence[Json], asked: Json) -> Json:
    """Return the unstreamed form of a stream whose every chunk is as §4.2 to §4.4 have it. Fails where one is not."""
    told, chunks = _usage_apart(chunks, "chat.completion.chunk", asked)
    assert (
        len({json.dumps([chunk[key] for key in ("id", "created", "model", "system_fingerprint")]) for chunk in chunks})
        == 1
    )
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert len(choices) == len(chunks), "a chunk has one choice"
    count = asked.get("n") or 1
    assert [choice["index"] for choice in choices[:count]] == list(range(count)), "every choice opens first, in order"
    folded = [_fold_choice([one for one in choices if one["index"] == index], index) for index in range(count)]
    shared = {key: chunks[0][key] for key in ("id", "created", "model", "system_fingerprint")}
    whole = {**shared, "object": "chat.completion", "choices": folded}
    return whole if told is None else {**whole, "usage": told}


def _usage_apart(chunks: Sequence[Json], kind: str, asked: Json) -> tuple[Json | None, Sequence[Json]]:
    """Take the usage chunk off the end; there is one where it was asked for, and no other chunk has a usage."""
    envelope = {"choices", "object", "usage", "created", "system_fingerprint", "model", "id"}
    for chunk in chunks:
        assert chunk.keys() == envelope, chunk
        assert chunk["object"] == kind
        assert chunk["model"] == asked["model"]
    told: Json | None = None
    if (asked.get("stream_options") or {}).get("include_usage"):
        assert chunks[-1]["choices"] == [], "the usage chunk is the last one"
        told, chunks = chunks[-1]["usage"], chunks[:-1]
        assert told is not None
    assert all(chunk["usage"] is None and chunk["choices"] for chunk in chunks)
    return told, chunks


def _fold_choice(choices: Sequence[Json], index: int) -> Json:
    for choice in choices:
        assert choice.keys() == {"delta", "index", "logprobs", "finish_reason"}
    opening, *middle, closing = choices
    thinks = "reasoning_content" in opening["delta"]
    assert opening["delta"] == (
        {"content": None, "role": "assistant", "reasoning_content": ""}
        if thinks
        else {"content": "", "role": "assistant"}
    )
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    assert closing["finish_reason"] in _REASONS
    message = _fold_deltas([choice["delta"] for choice in middle], thinks=thinks)
    ending: Json = {"content": ""}
    if thinks or "reasoning_content" in message:
        ending["reasoning_content"] = None
    if "tool_calls" in message:
        ending["tool_calls"] = None
    assert closing["delta"] == ending
    told = [token for choice in middle for token in (choice["logprobs"] or {"content": []})["content"]]
    likelihoods = {"content": told} if any(choice["logprobs"] for choice in middle) else None
    return {"index": index, "finish_reason": closing["finish_reason"], "logprobs": likelihoods, "message": message}


def _fold_deltas(deltas: Sequence[Json], *, thinks: bool) -> Json:
    """Join the deltas between the first and the last of a choice (§4.2 text, §4.3 thinking, §4.4 calls)."""
    content, reasoning, calls, answering = "", "", list[Json](), False
    for delta in deltas:
        assert "role" not in delta, "the role comes once"
        if pieces := delta.get("tool_calls"):
            answering = True
            assert delta.get("content") is None
            assert delta.keys() <= {"content", "tool_calls", "reasoning_content"}
            for piece in pieces:
                _add_piece(piece, calls)
        elif delta.get("reasoning_content"):
            assert not answering, "reasoning precedes the answer, they do not interleave"
            assert delta == {"content": None, "reasoning_content": delta["reasoning_content"]}
            thinks = True  # also where nobody knew it when the answer began
            reasoning += delta["reasoning_content"]
        else:
            answering = answering or bool(delta["content"])
            assert delta == {"content": delta["content"], **({"reasoning_content": None} if thinks else {})}
            content += delta["content"]
    message: Json = {"role": "assistant", "content": content}
    if reasoning:
        message["reasoning_content"] = reasoning
    if calls:
        message["tool_calls"] = calls
    return message


def _add_piece(piece: Json, calls: list[Json]) -> None:
    assert piece.keys() == {"index", "id", "type", "function"}
    assert piece["type"] == "function"
    assert piece["function"].keys() == {"name", "arguments"}
    assert isinstance(piece["function"]["arguments"], str)
    if piece["id"]:
        assert piece["index"] == len(calls), "calls are numbered from 0 as they come"
        assert piece["function"]["name"]
        calls.append({**piece, "function": dict(piece["function"])})
    else:
        assert piece["id"] == ""
        assert piece["index"] == len(calls) - 1, "a call is over when the next one begins"
        assert piece["function"]["name"] is None, "the name comes once"
        calls[-1]["function"]["arguments"] += piece["function"]["arguments"]


def fold_completion_stream(chunks: Sequence[Json], asked: Json) -> Json:
    """Return the unstreamed form of a text completion's stream (spec/surfaces.md §5)."""
    told, chunks = _usage_apart(chunks, "text_completion", asked)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert all(choice.keys() == {"text", "index", "finish_reason", "logprobs"} for choice in choices)
    assert [choice["finish_reason"] for choice in choices[:-1]] == [None] * (len(choices) - 1)
    shared = {key: chunks[0][key] for key in ("id", "created", "model", "system_fingerprint", "object")}
    text = "".join(choice["text"] for choice in choices)
    whole = {**shared, "choices": [{**choices[-1], "text": text}]}
    return whole if told is None else {**whole, "usage": told}


# --- around them ------------------------------------------------------------------------------------------------------


def check_around(response: httpx2.Response, answer: Json, *, streamed: bool) -> None:
    """Fail where the headers of an answer do not say what they must."""
    kind = "text/event-stream;charset=UTF-8" if streamed else "application/json"
    assert response.headers["content-type"] == kind
    request_id = response.headers["x-request-id"]
    assert str(uuid.UUID(request_id)) == request_id
    assert answer["id"] in (request_id, f"chatcmpl-{request_id}", f"cmpl-{request_id}")
    assert re.fullmatch(r"(exact|closest|stand-in|upstream); \S+", response.headers["x-hanlin-served-by"])


def refusal_of(response: httpx2.Response) -> Json:
    """Return the `error` of a refusal, whose envelope must be the documented one (§12), streamed or not."""
    envelope: Json = response.json()
    assert response.headers["content-type"] == "application/json"
    assert envelope.keys() == {"error", "id", "request_id"}
    assert envelope["request_id"] == response.headers["x-request-id"]
    assert envelope["id"] == f"chatcmpl-{envelope['request_id']}"
    error: Json = envelope["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


def said(answer: Mapping[str, Any]) -> Any:
    """Return what an answer says, without what differs from call to call: ids and times."""
    choices = []
    for choice in answer["choices"]:
        message = {**choice["message"]} if "message" in choice else {"text": choice["text"]}
        if "tool_calls" in message:
            message["tool_calls"] = [call["function"] for call in message["tool_calls"]]
        choices.append({**message, "finish_reason": choice["finish_reason"], "logprobs": choice["logprobs"]})
    return {"choices": choices, "usage": answer.get("usage")}
