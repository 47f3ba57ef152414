"""Say what the fake engine answers: rules from a request to a reply, its pace and its faults, and where they come from.

Values only. A rule first says which requests it takes (`contains`, `model`, `stream`, `when`, `times`), then what it
replies. The first rule that takes a request answers it; without one the engine answers with a short default. In a file:

    style = "llama"
    context_tokens = 2048

    [[rule]]
    contains = "天气"
    thinking = "用户想知道天气。"
    tool_calls = [{ name = "get_weather", arguments = { city = "杭州" } }]

    [[rule]]
    when = { "response_format.type" = "json_schema" }
    json_schema = true

    [[rule]]
    times = 1
    status = 503
    headers = { retry-after = "2" }
"""

import fnmatch
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hanlin.words import say

Seconds = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]
AfterChunks = Annotated[int, Meta(ge=-1)]
Style = Literal["openai", "llama"]
Template = Literal["default", "qwen3"]

ANY = "*"


class ToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A call that the fake makes. `arguments` as text is sent as it is, also when it is not JSON.

    Without `arguments` they are made from the schema of the request's tool of this name.
    """

    name: str
    arguments: dict[str, Any] | str | None = None


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Which requests a rule takes, and what they get.

    Match (all that are given must hold):

    | field | takes a request |
    |---|---|
    | `contains` | whose last user message (or prompt) has this text in it |
    | `model` | whose model fits this pattern (`qwen*`) |
    | `stream` | that wants, or does not want, a stream |
    | `when` | whose body has these values at these paths (`messages.0.role`); `"*"`: anything but null |
    | `times` | as long as the rule answered fewer |

    Reply: `chunks` are the text with its boundaries; else `texts` (one for each choice, in turn), `text`, the last user
    message (`echo`), or a value for the request's schema (`json_schema`, which makes a tool call where the request has
    tools and no schema for the answer) leaves `chunk_tokens` at a time. `thinking` comes before, `tool_calls` after it.
    A request that names a tool in its `tool_choice` gets a call of it, unless the rule has calls or a `raw`.
    `max_tokens`, `max_completion_tokens` (both cap everything that is generated), `stop`, `n`, `logprobs`,
    `thinking_budget`, `parallel_tool_calls: false` and a last assistant message that is to be continued (`partial`,
    `prefix`, `continue_final_message`; the llama style continues any) of the request are honoured; what the rule says
    is the whole message then, and only what follows is generated. `usage` replaces the wire's usage object,
    `omit_usage` drops it. `cached_tokens` are those of the prompt that were read before (see `Setup.prefix_cache`).

    `raw` is the whole generation as the model itself writes it, its markup included, for a prompt that is asked to be
    continued (`POST /completion`): each pass goes on where the prompt ends. Without it, it is made from `thinking`, the
    text and `tool_calls` in Qwen's form. Over chat it is sent as it is, as by an engine without parsers.

    | field | how an engine may differ |
    |---|---|
    | `reasoning_field` | what the field with the thinking is called |
    | `thinks_when_asked` | no thinking unless `enable_thinking` is true, in the body or for the template |
    | `parallel_anyway` | several calls also with `parallel_tool_calls: false` |
    | `smart` | answers what it is asked, as a tiny model would (see `mind`), where the rule says nothing else |

    Pace: the first byte leaves after `first_delay_s`, then `prefill_frames` times `prefill_delay_s` pass (each with a
    frame of progress, if the style is llama and the request asks for them), then the chunks leave `chunk_delay_s`
    apart. An unstreamed answer takes as long.

    Faults: `status` answers with an error after `first_delay_s` (`body` replaces its usual body). The others come
    after so many chunks, or after the last one if there are fewer; -1 is before the first byte of the answer. What an
    unstreamed answer does is in brackets; one with vectors does the same, but for `end_after_chunks`.

    | field | what happens |
    |---|---|
    | `cut_after_chunks` | the connection closes (after half of the body); `reset` makes it a TCP reset |
    | `stall_after_chunks` | silence on an open connection, for ever (after half of the body) |
    | `end_after_chunks` | the stream ends too early, but properly (the part so far, finish reason null) |
    | `error_after_chunks` | an error frame ends the stream (status 500); `body` replaces its usual body |
    | `garbage_after_chunks` | a frame that is no JSON, then the rest (a body that is no JSON); with -1 no HTTP either |

    Bytes: `headers` are added to those of any answer. Of a stream: `split_bytes` sends every so many bytes on their
    own, in an HTTP chunk and a write each; `comment` puts an SSE comment before every frame; `crlf` ends lines with CR
    LF; `blank_lines` stand between frames; `omit_done` leaves `[DONE]` out.
    """

    contains: str = ""
    model: str = ANY
    stream: bool | None = None
    when: dict[str, Any] = {}
    times: Count | None = None

    style: Style | None = None
    text: str | None = None
    texts: tuple[str, ...] = ()
    chunks: tuple[str, ...] = ()
    chunk_tokens: Annotated[int, Meta(ge=1)] = 1
    echo: bool = False
    json_schema: bool = False
    raw: str | None = None
    smart: bool = False
    thinking: str = ""
    thinks_when_asked: bool = False
    reasoning_field: Literal["reasoning_content", "reasoning"] = "reasoning_content"
    tool_calls: tuple[ToolCall, ...] = ()
    parallel_anyway: bool = False
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    omit_usage: bool = False
    cached_tokens: Count = 0

    first_delay_s: Seconds = 0.0
    prefill_frames: Count = 0
    prefill_delay_s: Seconds = 0.0
    chunk_delay_s: Seconds = 0.0

    status: Annotated[int, Meta(ge=400, le=599)] | None = None
    body: dict[str, Any] | str | None = None
    headers: dict[str, str] = {}
    cut_after_chunks: AfterChunks | None = None
    reset: bool = False
    stall_after_chunks: AfterChunks | None = None
    end_after_chunks: Count | None = None
    error_after_chunks: Count | None = None
    garbage_after_chunks: AfterChunks | None = None

    split_bytes: Annotated[int, Meta(ge=1)] | None = None
    comment: str = ""
    crlf: bool = False
    blank_lines: Annotated[int, Meta(ge=1)] = 1
    omit_done: bool = False


DEFAULT_RULE = Rule()


class Setup(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What the engine is: how it speaks, what it says it can do, and its rules.

    `models` are what `GET /v1/models` lists; the llama style names the first one in every answer, whatever was asked
    for. A prompt of more than `context_tokens` (0: no limit) is refused. For `loading_s` after its start the engine
    says that it is loading. `template` writes the prompts: `qwen3` as those models have it, with an empty thought
    where thinking is switched off. With `prefix_cache` the cached tokens of an answer are those that its prompt begins
    with and that were read or generated before, as rules without `cached_tokens` tell.
    """

    style: Style = "openai"
    models: tuple[str, ...] = ()
    context_tokens: Count = 0
    template: Template = "default"
    prefix_cache: bool = False
    slots: Annotated[int, Meta(ge=1)] = 4
    loading_s: Seconds = 0.0
    rule: tuple[Rule, ...] = ()


def takes(rule: Rule, *, model: str, question: str, stream: bool, body: Mapping[str, Any]) -> bool:
    """Say whether the rule's conditions hold for a request; how often it answered already is not looked at."""
    return (
        rule.contains in question
        and (rule.model == ANY or fnmatch.fnmatchcase(model, rule.model))
        and rule.stream in (None, stream)
        and all(_fits(value_at(body, path), wanted) for path, wanted in rule.when.items())
    )


def value_at(body: Any, path: str) -> Any:
    """Return what lies at a dotted path of names and list positions, None where there is nothing."""
    for step in path.split("."):
        if isinstance(body, Mapping):
            body = body.get(step)
        elif isinstance(body, Sequence) and not isinstance(body, str) and step.isdigit() and int(step) < len(body):
            body = body[int(step)]
        else:
            return None
    return body


def load(file: Path) -> Setup:
    """Read a set-up from a TOML or JSON file. Raises ValueError naming the file, the field and what to do."""
    try:
        content = file.read_bytes()
        if file.suffix == ".json":
            return msgspec.json.decode(content, type=Setup)
        return msgspec.convert(tomllib.loads(content.decode()), Setup)
    except (OSError, ValueError) as error:  # the decoders' errors are all ValueErrors
        raise ValueError(
            say(
                f"{file}: no rules of the fake engine: {error}. See hanlin.testing.rules for what they may hold",
                f"{file}：不是有效的模拟引擎规则：{error}。可用字段见 hanlin.testing.rules",
            )
        ) from error


def _fits(value: Any, wanted: Any) -> bool:
    return value is not None if wanted == ANY else bool(value == wanted)
