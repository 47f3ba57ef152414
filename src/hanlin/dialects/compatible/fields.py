"""The parameters of a request body: read one by one, refused in the vendor's words (spec/chat.md §3, §12)."""

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from hanlin.errors import InvalidRequest, InvalidValue, MalformedBody, MissingModel
from hanlin.types import Body, Sampling, StopTokens

Fields = Mapping[str, bytes]
"""A body's fields, each as the JSON text that was sent."""


@dataclass(frozen=True)
class Number:
    """A numeric parameter: its bounds, and the vendor's words for a value outside them or of another type."""

    refusal: str
    low: float = float("-inf")
    high: float = float("inf")
    low_open: bool = False
    high_open: bool = False
    integer: bool = False

    def fits(self, value: float) -> bool:
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below


FLOAT_MAX = sys.float_info.max

NUMBERS: Mapping[str, Number] = {
    "temperature": Number("Temperature should be in [0.0, 2.0)", 0, 2, high_open=True),
    "top_p": Number("Range of top_p should be (0.0, 1.0]", 0, 1, low_open=True),
    "top_k": Number("Parameter top_k be greater than or equal to 0", 0, integer=True),
    "presence_penalty": Number("Presence_penalty should be in [-2.0, 2.0]", -2, 2),
    "frequency_penalty": Number("Frequency_penalty should be in [-2.0, 2.0]", -2, 2),
    "repetition_penalty": Number("Repetition_penalty should be greater than 0.0", 0, FLOAT_MAX, low_open=True),
    "n": Number("Range of n should be [1, 4]", 1, 4, integer=True),
    "top_logprobs": Number("Range of top_logprobs should be [0, 5]", 0, 5, integer=True),
    # Their upper bounds are the model's, so `service` checks the ranges of these.
    "max_tokens": Number("", integer=True),
    "max_completion_tokens": Number("", integer=True),
    "thinking_budget": Number("", integer=True),
}

SEED_MAX = 2**31 - 1
_TOP_K_OFF_ABOVE = 100

decoded = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
"""Cut a body into its fields, unread: what stays raw may hold anything that is not a text."""

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read(body: Body) -> Fields:
    """Cut a body into its fields. Raises MalformedBody where it is no JSON object."""
    try:
        str(body, "utf-8")  # what stays raw is not looked into here, and must not fail later
        return {name: bytes(raw) for name, raw in decoded(body).items()}
    except _UNREADABLE as error:
        raise MalformedBody(str(error)) from error


def given(fields: Fields) -> frozenset[str]:
    """Return the names of the fields that were sent and are not null."""
    return frozenset(name for name, raw in fields.items() if raw != b"null")


def value(name: str, fields: Fields) -> Any:
    """Return a field's value, None when it is absent."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw)
    except _UNREADABLE as error:
        raise MalformedBody(str(error)) from error


def model(fields: Fields) -> str:
    name = value("model", fields)
    if name is None or name == "":
        raise MissingModel
    if not isinstance(name, str):
        raise InvalidRequest("'model' must be String", param="model")
    return name


def numbers(fields: Fields, names: Collection[str] = NUMBERS) -> dict[str, Any]:
    """Return the numeric parameters that were sent, among `names`."""
    if NUMBERS.keys().isdisjoint(fields):
        return {}
    return {name: _number(name, fields) for name in NUMBERS if name in names and fields.get(name, b"null") != b"null"}


def _number(name: str, fields: Fields) -> Any:
    row, number = NUMBERS[name], value(name, fields)
    wanted = "Integer" if row.integer else "Float"
    if isinstance(number, bool) or not isinstance(number, (int, float)) or (row.integer and number != int(number)):
        raise InvalidRequest(f"'{name}' must be {wanted}", param=name)
    if not row.fits(number):
        raise InvalidRequest(row.refusal, param=name)
    return int(number) if row.integer else float(number)


def boolean(name: str, fields: Fields) -> bool | None:
    found = value(name, fields)
    if found is None or isinstance(found, bool):
        return found
    raise InvalidRequest(f"'{name}' must be Boolean", param=name)


def text(name: str, fields: Fields) -> str | None:
    found = value(name, fields)
    if found is None or isinstance(found, str):
        return found
    raise InvalidRequest(f"'{name}' must be String", param=name)


def sampling(fields: Fields, sent: Mapping[str, Any]) -> Sampling:
    """Return how tokens are to be drawn; `sent` are the numeric parameters of the body."""
    stop, stop_tokens = _stop(fields)
    top_k = sent.get("top_k", 0 if fields.get("top_k") == b"null" else None)
    return Sampling(
        temperature=sent.get("temperature"),
        top_p=sent.get("top_p"),
        top_k=0 if top_k is not None and top_k > _TOP_K_OFF_ABOVE else top_k,
        presence_penalty=sent.get("presence_penalty"),
        frequency_penalty=sent.get("frequency_penalty"),
        repetition_penalty=sent.get("repetition_penalty"),
        seed=_seed(fields),
        max_tokens=sent.get("max_tokens"),
        max_completion_tokens=sent.get("max_completion_tokens"),
        stop=stop,
        stop_tokens=stop_tokens,
        logit_bias=_logit_bias(fields),
    )


def _seed(fields: Fields) -> int | None:
    seed = value("seed", fields)
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise InvalidValue("'seed' must be Integer", param="seed")
    if seed < 0:
        raise InvalidValue(f"{seed} is lesser than the minimum of 0 - 'seed'", param="seed")
    if seed > SEED_MAX:
        raise InvalidValue(f"{seed} is greater than the maximum of {SEED_MAX} - 'seed'", param="seed")
    return seed


_STOP_REFUSAL = (
    'The "stop" parameter must be of type "str", "list[str]", "list[int]", or "list[list[int]]", '
    "and all elements within the list must be of the same type."
)


# Every token that is generated is compared with all of them.
_MOST_STOPS = 64
_MOST_BIASES = 1024


def _stop(fields: Fields) -> tuple[tuple[str, ...], StopTokens]:
    """Return stop texts and stop token sequences; a list of ids is one sequence an id."""
    stop = value("stop", fields)
    values = stop if isinstance(stop, list) else [] if stop is None else [stop]
    if len(values) > _MOST_STOPS:
        raise InvalidRequest(f"'stop' holds {len(values)} sequences, at most {_MOST_STOPS} are taken", param="stop")
    if all(isinstance(item, str) for item in values):
        return tuple(item for item in values if item), ()
    if isinstance(stop, list) and all(_is_token(item) for item in stop):
        return (), tuple((item,) for item in stop)
    if isinstance(stop, list) and all(isinstance(item, list) and all(map(_is_token, item)) for item in stop):
        return (), tuple(tuple(item) for item in stop if item)
    raise InvalidRequest(_STOP_REFUSAL, param="stop")


def _is_token(item: Any) -> bool:
    return isinstance(item, int) and not isinstance(item, bool) and 0 <= item < 2**31


def _is_token_id(text: str) -> bool:
    return text.isdecimal() and len(text) <= 10


def _logit_bias(fields: Fields) -> tuple[tuple[int, float], ...]:
    biases = value("logit_bias", fields)
    if biases is None:
        return ()
    if (
        isinstance(biases, dict)
        and len(biases) <= _MOST_BIASES
        and all(
            _is_token_id(token)
            and isinstance(bias, (int, float))
            and not isinstance(bias, bool)
            and -100 <= bias <= 100
            for token, bias in biases.items()
        )
    ):
        return tuple((int(token), float(bias)) for token, bias in biases.items())
    raise InvalidRequest(
        f"'logit_bias' must map at most {_MOST_BIASES} token ids to numbers in [-100, 100]", param="logit_bias"
    )


def include_usage(fields: Fields, *, stream: bool) -> bool:
    options = value("stream_options", fields)
    if options is None:
        return False
    if not isinstance(options, dict) or not isinstance(options.get("include_usage", False), bool | None):
        raise InvalidRequest("'stream_options' must be an object with a Boolean include_usage", param="stream_options")
    if not stream:
        raise InvalidRequest(
            "The 'stream_options' parameter is only allowed when 'stream' is true", param="stream_options"
        )
    return bool(options.get("include_usage"))
