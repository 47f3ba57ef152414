"""Read a request to generate, as far as the fake engine looks into it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from hanlin.testing import grammar, templates, tokens
from hanlin.testing.rules import Template, value_at

ANY_TOOL = "*"

_PARTIAL = ("partial", "prefix")  # Model Studio's and DeepSeek's word for a message that is to be continued


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller wants. `question` is the text of the last user message, `prompt` what a model would be given.

    `said` is what the answer has already: the message that is to be continued, or what a prompt has behind its last
    opening, which `head` ends with. `max_tokens` is the smaller of the request's two limits, None without any.
    `forced` is the tool that must be called, `ANY_TOOL` if it may be any. `schema` is what the answer must fit, None
    without one. `thinks` is None where the request says nothing about it.
    """

    body: dict[str, Any]
    chat: bool
    native: bool = False
    model: str
    messages: list[dict[str, Any]]
    tools: list[Any]
    question: str
    prompt: str
    head: str = ""
    said: str = ""
    stream: bool
    include_usage: bool = False
    n: int
    max_tokens: int | None
    stop: tuple[str, ...]
    logprobs: bool
    top_logprobs: int
    return_progress: bool
    schema: Any = None
    thinks: bool | None = None
    thinking_budget: int | None = None
    parallel: bool = True
    forced: str = ""

    @property
    def prompt_tokens(self) -> int:
        return tokens.count(self.prompt)


def read(body: Any, *, chat: bool, template: Template = "default", continues: bool = False) -> Ask:
    """Return what `body` asks for. Raises ValueError where it is no request at all; it does not judge values.

    `continues` is for an engine that continues a last message of the assistant without being told.
    """
    if not isinstance(body, dict):
        raise ValueError("the body is not a JSON object")
    messages = body.get("messages") if chat else [{"role": "user", "content": _prompt(body)}]
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ValueError("'messages' is not a list of objects")
    tools = body["tools"] if isinstance(body.get("tools"), list) else []
    limits = [body[name] for name in ("max_tokens", "max_completion_tokens") if isinstance(body.get(name), int)]
    wanted = body.get("logprobs")
    thinks = _thinks(body)
    continued = chat and is_continued(body, messages, continues=continues)
    budget = body.get("thinking_budget")
    return Ask(
        body=body,
        chat=chat,
        model=str(body.get("model") or ""),
        messages=messages,
        tools=tools,
        question=_question(messages),
        prompt=templates.prompt(template, messages, tools, thinks=thinks, continued=continued)
        if chat
        else _prompt(body),
        said=tokens.text_of(messages[-1].get("content")) if continued else "",
        stream=body.get("stream") is True,
        include_usage=value_at(body, "stream_options.include_usage") is True,
        n=_n(body),
        max_tokens=min((limit for limit in limits if limit >= 0), default=None),
        stop=_stops(body.get("stop")),
        logprobs=wanted is not None and wanted is not False,
        # Completions ask for the number of alternatives with `logprobs` itself.
        top_logprobs=int((body.get("top_logprobs") if chat else wanted) or 0),
        return_progress=body.get("return_progress") is True,
        schema=_schema(body),
        thinks=thinks,
        thinking_budget=budget if isinstance(budget, int) else None,
        parallel=body.get("parallel_tool_calls") is not False,
        forced=_forced(body),
    )


def read_native(body: Any) -> Ask:
    """Return what `body` asks of llama.cpp's own completions. Raises ValueError in that server's words.

    Conversation and tools are read back out of the prompt, so that a rule takes the same questions as over chat.
    """
    if not isinstance(body, dict):
        raise ValueError("[json.exception.type_error.304] cannot use at() with array")
    if "prompt" not in body:
        raise ValueError("[json.exception.out_of_range.403] key 'prompt' not found")
    prompt = _native_prompt(body["prompt"])
    limit = _number(body, "n_predict" if "n_predict" in body else "max_tokens", -1)
    n_probs = _number(body, "n_probs", 0)
    written = templates.read(prompt)
    constrained = body.get("json_schema") is not None and not body.get("grammar")
    return Ask(
        body=body,
        chat=False,
        native=True,
        model=str(body.get("model") or ""),
        messages=written.messages,
        tools=written.tools,
        question=_question(written.messages),
        prompt=prompt,
        head=written.head,
        said=written.written,
        stream=body.get("stream") is True,
        n=_n(body),
        max_tokens=None if limit < 0 else max(limit, 1),  # a token is made before the limit is looked at
        stop=_native_stops(body.get("stop")),
        logprobs=n_probs > 0,
        top_logprobs=n_probs,
        return_progress=body.get("return_progress") is True,
        schema=body["json_schema"] if constrained and grammar.enforces(body["json_schema"]) else None,
    )


def is_continued(body: Mapping[str, Any], messages: list[dict[str, Any]], *, continues: bool = False) -> bool:
    """Say whether the last message is the beginning of the answer."""
    if not messages or messages[-1].get("role") != "assistant" or messages[-1].get("tool_calls"):
        return False
    asked = body.get("continue_final_message") is True or any(messages[-1].get(name) is True for name in _PARTIAL)
    return continues or asked


def _prompt(body: Mapping[str, Any]) -> str:
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        return tokens.decode(prompt) if all(isinstance(part, int) for part in prompt) else "".join(map(str, prompt))
    return str(prompt or "")


def _native_prompt(prompt: Any) -> str:
    if isinstance(prompt, str):
        return prompt
    if prompt == []:
        raise ValueError('"prompt" must not be empty')
    if isinstance(prompt, list) and all(isinstance(part, int) for part in prompt):
        return tokens.decode(prompt)
    if isinstance(prompt, list) and all(isinstance(part, str) for part in prompt):
        raise ValueError("several prompts at once are not served here")
    raise ValueError(
        '"prompt" elements must be a string, a list of tokens, a JSON object containing a prompt string, '
        "or a list of mixed strings & tokens."
    )


def _number(body: Mapping[str, Any], name: str, default: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(_wrong_type(name, "number", value))
    return int(value)


def _native_stops(stop: Any) -> tuple[str, ...]:
    for one in stop if isinstance(stop, list) else []:
        if not isinstance(one, str):
            raise ValueError(_wrong_type("stop", "string", one))
    return _stops(stop)


def _wrong_type(name: str, wanted: str, value: Any) -> str:
    kinds = {bool: "boolean", str: "string", list: "array", dict: "object", int: "number", float: "number"}
    return f"Field '{name}': [json.exception.type_error.302] type must be {wanted}, but is {kinds.get(type(value))}"


def _n(body: Mapping[str, Any]) -> int:
    return body["n"] if isinstance(body.get("n"), int) and body["n"] > 0 else 1


def _question(messages: list[dict[str, Any]]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            return tokens.text_of(message.get("content"))
    return ""


def _thinks(body: Mapping[str, Any]) -> bool | None:
    for path in ("enable_thinking", "chat_template_kwargs.enable_thinking"):
        if isinstance(wanted := value_at(body, path), bool):
            return wanted
    return None


def _forced(body: Mapping[str, Any]) -> str:
    if body.get("tool_choice") in ("required", "any"):
        return ANY_TOOL
    return str(value_at(body, "tool_choice.function.name") or "")


def _schema(body: Mapping[str, Any]) -> Any:
    """Return the schema that the answer must fit: OpenAI's place for it, llama.cpp's own, or any object."""
    if (wanted := value_at(body, "response_format.json_schema.schema")) is not None:
        return wanted
    if (wanted := body.get("json_schema")) is not None:
        return wanted
    if value_at(body, "response_format.type") == "json_object":
        return value_at(body, "response_format.schema") or {"type": "object", "required": ["answer"]}
    return None


def _stops(stop: Any) -> tuple[str, ...]:
    """Return the stop texts: a string, strings, token ids, or lists of token ids."""
    if isinstance(stop, str):
        return (stop,) if stop else ()
    if not isinstance(stop, list):
        return ()
    return tuple(
        one if isinstance(one, str) else tokens.decode([one] if isinstance(one, int) else one)
        for one in stop
        if one != ""
    )
