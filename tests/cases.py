"""The contract as a table: what is asked and what must come back, in `tests/contract/cases/*.toml`.

A case:

| field | meaning |
|---|---|
| `name`, `section` | what it says, and where the specification says it |
| `models` | the models that it holds for: a case of each |
| `path` | `chat` (default), `completions` or `embeddings` |
| `request` | fields of the body, over a usual question; `nulls` are null, `without` are absent |
| `body` | the body itself, for what TOML cannot say or no JSON object is |
| `key`, `method` | in place of the right key, and of POST |
| `engine` | the fake engine's rules (`hanlin.testing.rules`); without them it says `ANSWER` |
| `expect`, `headers` | what must stand where in the answer's unstreamed form, and in its headers |
| `sent` | what must stand where in what the engine was asked last, by profile (`all`: on every profile) |
| `error` | the refusal: status, code, type, param, part of the message |
| `modes` | `whole`, `stream` or both (default); a request that has `stream` is sent once, as it is |
| `profiles` | the fakes that it runs on, by the profile of their deployment: llama and modelstudio |
| `settings` | settings of the service, as `HANLIN_…`: it gets one of its own |
| `differs` | streamed and unstreamed answers need not say the same |
| `needs` | `mind`: a model of half a billion parameters cannot be expected to; only the form is looked at there |
| `embedded` | why it is left out on the embedded engine |

Places are dotted paths; short names are in `_PLACES`. A value there is compared, unless it is one of these:

| value | holds for |
|---|---|
| `"*"`, `"absent"`, `"null"` | anything but null; nothing at all; null |
| `"<string>"` … `"<object>"` | a value of the type |
| `"~ pattern"` | a text in which the pattern is found |
| `{ "$json" = … }` | a text that is this as JSON |
| `{ "$fits" = "place" }` | a text that is JSON and fits the schema at this place of the request |
| `{ "$items" = n }` | a list, or a text, of this length |
| `{ "$least" = n }`, `{ "$most" = n }` | a number so large, or so small; a place in the answer also counts as n |
| `{ "$one_of" = […] }`, `{ "$not" = … }` | any of several values; any but this |

In a request, `{ "$repeat" = "text", times = n }` stands for a long text, or with a list for a long list.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import httpx2
import msgspec

from hanlin import schemas
from hanlin.testing import Rule
from tests import answers

Json = dict[str, Any]
Mode = Literal["whole", "stream"]
Profile = Literal["llama", "modelstudio", "openai", "vllm"]
Endpoint = Literal["chat", "completions", "embeddings"]

FOLDER = Path(__file__).parent / "contract" / "cases"
ANSWER = "我是通义千问。"
USUAL: Mapping[Endpoint, Json] = {
    "chat": {"model": "qwen-plus", "messages": [{"role": "user", "content": "你是谁？"}]},
    "completions": {"model": "qwen-coder-turbo", "prompt": "def fib(n):\n"},
    "embeddings": {"model": "text-embedding-v4", "input": "风急天高猿啸哀"},
}
PATHS: Mapping[Endpoint, str] = {
    "chat": "/compatible-mode/v1/chat/completions",
    "completions": "/compatible-mode/v1/completions",
    "embeddings": "/compatible-mode/v1/embeddings",
}

_MESSAGE = "choices.0.message"
_PLACES = {
    "content": f"{_MESSAGE}.content",
    "reasoning": f"{_MESSAGE}.reasoning_content",
    "calls": f"{_MESSAGE}.tool_calls",
    "tool": f"{_MESSAGE}.tool_calls.0.function.name",
    "arguments": f"{_MESSAGE}.tool_calls.0.function.arguments",
    "finish": "choices.0.finish_reason",
    "text": "choices.0.text",
}
_TYPES: Mapping[str, Any] = {
    "<string>": str,
    "<integer>": int,
    "<number>": (int, float),
    "<boolean>": bool,
    "<list>": list,
    "<object>": dict,
}
_NOTHING = object()


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a refusal says; `code` and `param` are `"null"` where they are null."""

    status: int
    message: str
    code: str = "invalid_parameter_error"
    type: str = "invalid_request_error"
    param: str = "null"


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One row; the fields are described above."""

    name: str
    section: str
    topic: str = ""
    path: Endpoint = "chat"
    models: tuple[str, ...] = ()
    request: Json = {}
    nulls: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    body: str | None = None
    key: str | None = None
    method: str = "POST"
    engine: tuple[Rule, ...] = (Rule(text=ANSWER),)
    expect: Json = {}
    headers: Json = {}
    sent: dict[str, Json] = {}
    error: Refusal | None = None
    modes: tuple[Mode, ...] = ("whole", "stream")
    profiles: tuple[Profile, ...] = ()
    settings: dict[str, str] = {}
    differs: bool = False
    needs: Literal["", "mind"] = ""
    embedded: str = ""

    @property
    def ways(self) -> tuple[Mode, ...]:
        """The modes that it is asked in."""
        if self.path == "embeddings" or self.body is not None or self.method != "POST":
            return ("whole",)
        if "stream" in self.request:
            return ("stream",) if self.request["stream"] is True else ("whole",)
        return self.modes

    def asked(self, mode: Mode) -> Json:
        """Return the request's body. A streamed one asks for its usage, unless it says something about that itself."""
        fields = {
            name: value for name, value in {**USUAL[self.path], **self.request}.items() if name not in self.without
        }
        fields |= dict.fromkeys(self.nulls)
        if mode == "stream" and "stream" not in fields:
            fields["stream"] = True
            fields.setdefault("stream_options", {"include_usage": True})
        return dict(expanded(fields))


def cases() -> list[Case]:
    """Return every case, in the order of the files. Two of a topic must not have the same name."""
    found = [case for file in sorted(FOLDER.glob("*.toml")) for case in _read(file)]
    names = [(case.topic, case.name) for case in found]
    assert len(set(names)) == len(names), sorted(name for name in names if names.count(name) > 1)
    return found


def _read(file: Path) -> Iterator[Case]:
    for row in tomllib.loads(file.read_text(encoding="utf-8"))["case"]:
        try:
            case = msgspec.convert({**row, "topic": file.stem}, Case)
        except msgspec.ValidationError as error:
            raise AssertionError(f"{file.name}, {row.get('name')!r}: {error}") from error
        yield from _multiplied(case)


def _multiplied(case: Case) -> Iterator[Case]:
    """Return a case of every model. Those that are for any fake take turns at it where there are many."""
    # A refusal hardly depends on what would have answered.
    usual: tuple[Profile, ...] = ("modelstudio",) if case.error is not None else ("llama", "modelstudio")
    if not case.models:
        yield msgspec.structs.replace(case, profiles=case.profiles or usual)
    for number, model in enumerate(case.models):
        profiles = case.profiles or (usual[number % len(usual)],)
        request = {**case.request, "model": model}
        yield msgspec.structs.replace(case, name=f"{case.name} ({model})", request=request, profiles=profiles)


def expanded(value: Any) -> Any:
    """Return a value with what stands for long texts and lists written out."""
    if isinstance(value, dict):
        if "$repeat" in value:
            return expanded(value["$repeat"]) * value["times"]
        return {name: expanded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [expanded(one) for one in value]
    return value


# --- what came back ---------------------------------------------------------------------------------------------------


def answer_of(response: httpx2.Response, case: Case, mode: Mode) -> Json:
    """Return an answer in its unstreamed form. Fails where its form is not that of every answer."""
    asked = case.asked(mode)
    if mode == "whole":
        answer: Json = response.json()
    elif case.path == "chat":
        answer = answers.fold_stream(answers.read_stream(response.content), asked)
    else:
        answer = answers.fold_completion_stream(answers.read_stream(response.content), asked)
    answers.check_around(response, answer, streamed=mode == "stream")
    if case.path == "embeddings":
        answers.check_embeddings(answer, asked)
    elif "usage" in answer and case.path == "chat":
        answers.check_whole(answer, asked)
    elif "usage" in answer:
        answers.check_whole_completion(answer, asked)
    return answer


def check_refusal(response: httpx2.Response, case: Case) -> None:
    wanted = case.error
    assert wanted is not None
    assert response.status_code == wanted.status, response.text[:700]
    error = answers.refusal_of(response)
    found = {"code": error["code"] or "null", "type": error["type"], "param": error["param"] or "null"}
    assert wanted.message in error["message"], error["message"]
    assert found == {"code": wanted.code, "type": wanted.type, "param": wanted.param}
    check(dict(response.headers), case.headers, {})


# --- what must stand where --------------------------------------------------------------------------------------------


def check(held: Any, wanted: Mapping[str, Any], asked: Json) -> None:
    """Fail, with all that is wrong, where `held` does not hold what is wanted."""
    wrong = list(_differences(held, wanted, asked))
    assert not wrong, "\n".join([*wrong, f"in {json.dumps(held, ensure_ascii=False)[:3000]}"])


def _differences(held: Any, wanted: Mapping[str, Any], asked: Json) -> Iterator[str]:
    for place, value in placed(wanted):
        found = at(held, place)
        if not _holds(found, value, held, asked):
            shown = "nothing" if found is _NOTHING else repr(found)
            yield f"{place}: {shown}, wanted {value!r}"


def placed(wanted: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Return each place with what is wanted there."""
    for name, value in wanted.items():
        first, dot, rest = name.partition(".")
        place = above + (name if above else _PLACES.get(first, first) + dot + rest)
        if isinstance(value, dict) and value and not any(key.startswith("$") for key in value):
            yield from placed(value, f"{place}.")
        else:
            yield place, value


def at(held: Any, place: str) -> Any:
    """Return what stands at a place; names of headers may hold dashes, and lists count from either end."""
    for step in place.split("."):
        if isinstance(held, Mapping):
            held = held.get(step, _NOTHING)
        elif isinstance(held, list) and re.fullmatch(r"-?\d+", step) and -len(held) <= int(step) < len(held):
            held = held[int(step)]
        else:
            return _NOTHING
    return held


def _holds(found: Any, wanted: Any, whole: Any, asked: Json) -> bool:
    if wanted == "absent":
        return found is _NOTHING
    if wanted == "null":
        return found is None
    if isinstance(wanted, dict) and "$one_of" in wanted:
        return any(_holds(found, one, whole, asked) for one in wanted["$one_of"])
    if found is _NOTHING:
        return False
    if wanted == "*":
        return found is not None
    if isinstance(wanted, str) and wanted in _TYPES:
        return bool(isinstance(found, _TYPES[wanted])) and (wanted == "<boolean>" or not isinstance(found, bool))
    if isinstance(wanted, str) and wanted.startswith("~ "):
        return isinstance(found, str) and re.search(wanted[2:], found) is not None
    if isinstance(wanted, dict):
        return all(_satisfies(found, name, value, whole, asked) for name, value in wanted.items())
    return bool(found == wanted and isinstance(found, bool) == isinstance(wanted, bool))


def _satisfies(found: Any, name: str, value: Any, whole: Any, asked: Json) -> bool:
    if name == "$json":
        return isinstance(found, str) and _decoded(found) == value
    if name == "$fits":
        decoded = _decoded(found) if isinstance(found, str) else _NOTHING
        return decoded is not _NOTHING and schemas.problem(decoded, at(asked, value)) is None
    if name == "$items":
        return bool(len(found) == value)
    if name == "$not":
        return not _holds(found, value, whole, asked)
    assert name in ("$least", "$most"), f"no such comparison: {name}"
    bound = at(whole, value) if isinstance(value, str) else value
    return bool(found >= bound if name == "$least" else found <= bound)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return _NOTHING
