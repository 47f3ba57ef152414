"""Estimate what a call will use before it runs, from its characters alone: quickly, and with a known error.

Pure. An estimate only holds quota until the engine's own counts replace it, so it must be quick and seldom far too low;
it is no count, and no bill is made of it unless it says so.
"""

from collections.abc import Iterable, Sequence

import msgspec

from hanlin.catalogue.models import Model
from hanlin.types import ChatRequest, Message, Tool

_MESSAGE_TOKENS = 5
_TEMPLATE_TOKENS = 8
"""What a chat template adds to each message and around all of them: Qwen's own adds 5 and 3, the vendor's up to 9
(spec/chat.md §4.6)."""

_TOOLS_TOKENS = 160
"""The instruction that stands before a list of tools in the Hermes style."""

_MEDIA_TOKENS = {"image": 1300, "video": 8200, "audio": 1500}
"""A large picture, a clip of some minutes at low resolution, a minute of speech (spec/multimodal.md §1)."""

_ANSWER_TOKENS = 8192
"""What an answer may take where neither caller nor catalogue sets a limit."""

_SAMPLES, _SAMPLE_CHARS = 32, 512

_DIGITS = b"0123456789"
_SIGNS = bytes(code for code in range(33, 127) if not chr(code).isalnum())


class Estimate(msgspec.Struct, frozen=True, gc=False):
    """The tokens that a call is taken for.

    `output` is what is held of the limits of tokens, `output_limit` the longest answer that is allowed: money is held
    for that one, so that a budget is kept whatever comes.
    """

    prompt: int
    output: int
    output_limit: int


def estimate(
    request: ChatRequest, model: Model, *, cap_tokens: int | None = None, context_tokens: int | None = None
) -> Estimate:
    """Return what a chat call will use at most, about.

    `cap_tokens` bounds what is held of a limit of tokens for an answer whose caller set no limit: most answers are far
    shorter than the model's, and holding all of it would let few calls in. `context_tokens` is what a call may use
    together with its prompt, where that is less than the catalogue says.
    """
    prompt = prompt_tokens(request.messages, request.tools)
    limit = output_limit_tokens(request, model)
    room = model.context_tokens or context_tokens
    if room:
        if context_tokens and context_tokens < room:
            room = context_tokens
        limit = min(limit, max(room - prompt, 1))
    sampling = request.sampling
    is_open = sampling.max_tokens is None and sampling.max_completion_tokens is None
    held = min(limit, cap_tokens) if is_open and cap_tokens is not None else limit
    return Estimate(prompt, held * request.n, limit * request.n)


def output_limit_tokens(request: ChatRequest, model: Model) -> int:
    """Return the longest answer that one choice may give, reasoning and answer together."""
    sampling, thinking = request.sampling, request.thinking
    answer = sampling.max_tokens or model.output_limit_tokens(thinking=thinking.on) or _ANSWER_TOKENS
    reasoning = 0
    if thinking.on and not (sampling.max_tokens and model.max_tokens_covers == "all"):
        reasoning = thinking.budget_tokens or model.max_reasoning_tokens or answer
    both = answer + reasoning
    return min(both, sampling.max_completion_tokens or both)


def prompt_tokens(messages: Sequence[Message], tools: Sequence[Tool] = ()) -> int:
    """Return about how many tokens a conversation is, with its chat template; see `text_tokens` for how nearly."""
    tokens, short = _TEMPLATE_TOKENS, []
    for message in messages:
        text = message.content
        if not isinstance(text, str) or message.reasoning or message.tool_calls:
            tokens += _message_tokens(message)
        elif len(text) <= _SAMPLES * _SAMPLE_CHARS:  # as nearly all: they are weighed together
            tokens += _MESSAGE_TOKENS
            short.append(text)
        else:
            tokens += _MESSAGE_TOKENS + text_tokens(text)
    tokens += text_tokens("".join(short))
    if tools:
        tokens += _TOOLS_TOKENS + sum(text_tokens(msgspec.json.encode(tool).decode()) for tool in tools)
    return tokens


def generated_tokens(pieces: int, text: str) -> int:
    """Return about how many tokens an answer has that came in so many pieces, and that nobody has counted.

    A piece is a token at least, and several of them at engines that send few. Rather too few than too many: whoever is
    charged by this has not got a count to look at.
    """
    return max(pieces, 3 * text_tokens(text) // 4)


def texts_tokens(texts: Iterable[str]) -> int:
    """Return about how many tokens texts without a template are, such as those of an embedding."""
    return sum(text_tokens(text) for text in texts)


def text_tokens(text: str) -> int:
    """Return about how many tokens a text is to a Qwen tokenizer.

    A digit is a token, a sign three quarters of one, other ASCII a fifth; what is not ASCII counts three eighths for
    every byte beyond the first of a character, so 0.75 for a Chinese one. Beside Qwen2.5's own vocabulary that is
    between 0.8 and 1.3 of the truth for Chinese, Japanese, Korean, English, German, code, JSON, TOML, tables and logs,
    up to 1.8 of it for Cyrillic and Thai, 0.65 for Devanagari. What looks random has more tokens than it seems: half is
    estimated of base64 and rare Chinese characters. No text is more than 5.4 times its estimate, because none has more
    tokens than bytes; runs of blanks are far less.

    A text beyond 16 K characters is judged by 32 samples of it, so that no length of a prompt takes longer.
    """
    if len(text) <= _SAMPLES * _SAMPLE_CHARS:
        return _weigh(text)
    starts = (len(text) * place // _SAMPLES for place in range(_SAMPLES))
    sample = "".join([text[start : start + _SAMPLE_CHARS] for start in starts])
    return -(-_weigh(sample) * len(text) // len(sample))


def _weigh(text: str) -> int:
    plain = text.encode("ascii", "ignore")
    size = len(plain)
    digits = size - len(plain.translate(None, _DIGITS))
    signs = size - len(plain.translate(None, _SIGNS))
    more = 0 if size == len(text) else len(text.encode("utf-8", "replace")) - len(text)
    return -(-(40 * digits + 30 * signs + 8 * (size - digits - signs) + 15 * more) // 40)


def _message_tokens(message: Message) -> int:
    tokens = _MESSAGE_TOKENS + text_tokens(message.text)
    if message.reasoning:
        tokens += text_tokens(message.reasoning)
    for call in message.tool_calls:
        tokens += _MESSAGE_TOKENS + text_tokens(call.name) + text_tokens(call.arguments)
    return tokens + sum(_MEDIA_TOKENS.get(part.kind, 0) for part in message.media)
