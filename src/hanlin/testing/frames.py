"""What both manners of speaking share: the interface, the envelope, usage, likelihoods and whole tool calls.

Objects only. Which bytes they become, and when those leave, is not known here (`script`).
"""

import hashlib
from typing import Any, Protocol

import msgspec

from hanlin.testing import tokens
from hanlin.testing.ask import Ask
from hanlin.testing.reply import Choice, Chunk, Counts, Reply
from hanlin.testing.rules import Rule

Json = dict[str, Any]


class Envelope(msgspec.Struct, frozen=True):
    """What all frames of an answer have in common."""

    id: str
    created: int
    model: str


class Speaker(Protocol):
    """A manner of speaking, for one answer. The frames of a choice come in the order role, chunks, finish.

    Progress is told from `first_step` on, 1 being the first part of the prompt that was read. `says_done` is for
    manners that end a stream with `[DONE]`.
    """

    first_step: int
    says_done: bool

    def __init__(self, envelope: Envelope, ask: Ask, rule: Rule) -> None: ...

    def progress(self, counts: Counts, step: int, steps: int) -> Json | None:
        """Return the frame that says how much of the prompt was read, None where it is not told."""

    def role(self, choice: Choice, index: int) -> Json | None:
        """Return the frame that opens a choice, None where there is none."""

    def chunk(self, choice: Choice, chunk: Chunk) -> Json: ...

    def finish(self, choice: Choice, index: int) -> Json: ...

    def usage(self, counts: Counts) -> Json: ...

    def whole(self, reply: Reply) -> Json:
        """Return the unstreamed answer."""

    @staticmethod
    def error(identity: str, status: int, message: str) -> Json: ...

    @staticmethod
    def too_long(identity: str, prompt_tokens: int, context_tokens: int) -> Json: ...


def call_id(envelope: Envelope, choice: int, call: int) -> str:
    """Return the id of a tool call: the same for the same call of the same answer, streamed or not."""
    return f"call_{hashlib.sha256(f'{envelope.id} {choice} {call}'.encode()).hexdigest()[:22]}"


def calls(choice: Choice) -> list[tuple[int, str, str]]:
    """Return the choice's whole tool calls: number, name and arguments of each."""
    names = {chunk.call: chunk.text for chunk in choice.chunks if chunk.kind == "call"}
    arguments = dict.fromkeys(names, "")
    for chunk in choice.chunks:
        if chunk.kind == "arguments":
            arguments[chunk.call] += chunk.text
    return [(number, name, arguments[number]) for number, name in names.items()]


def logprobs(chunks: tuple[Chunk, ...], ask: Ask, *, with_ids: bool) -> Json | None:
    """Return likelihoods of the answer's tokens among `chunks`, None when there are none or nobody asked.

    They are made up: every token is likelier than the next alternative, and depends on nothing but itself.
    """
    told = [token for chunk in chunks if ask.logprobs and chunk.kind == "text" for token in chunk.tokens]
    if not told:
        return None
    ranks = range(ask.top_logprobs)
    entries = [
        {**likelihood(token, 0, with_ids), "top_logprobs": [likelihood(token, rank, with_ids) for rank in ranks]}
        for token in told
    ]
    if ask.chat:
        return {"content": entries}
    return {
        "tokens": told,
        "token_logprobs": [entry["logprob"] for entry in entries],
        "top_logprobs": [{one["token"]: one["logprob"] for one in entry["top_logprobs"]} for entry in entries],
    }


def likelihood(token: str, rank: int, with_ids: bool) -> Json:
    """Return how likely a token was (rank 0), or one of the alternatives to it."""
    # An alternative is the token with marks behind it: never equal to the token, and told apart from the others.
    text = token + "·" * rank
    spelled = text.encode("utf-8", "surrogatepass")
    identity = {"id": tokens.encode(token)[0] + rank} if with_ids else {}
    return {**identity, "token": text, "logprob": -0.125 * (1 + len(token)) - rank, "bytes": list(spelled)}


def usage(counts: Counts, rule: Rule) -> Json:
    """Return the usage object of an answer: the rule's own, or the counts with details where there are some."""
    if rule.usage is not None:
        return rule.usage
    told: Json = {
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.completion,
        "total_tokens": counts.prompt + counts.completion,
        "prompt_tokens_details": {"cached_tokens": counts.cached},
    }
    if counts.reasoning:
        told["completion_tokens_details"] = {"reasoning_tokens": counts.reasoning, "text_tokens": counts.completion}
    return told
