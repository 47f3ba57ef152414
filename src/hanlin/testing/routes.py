"""Answer requests: the fake engine's endpoints, its rules in force and what it was asked.

Knows no socket: a request comes in as a value, and the script of the answer goes out.
"""

import secrets
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from hanlin.testing import ask as asking
from hanlin.testing import embeddings, grammar, native, script, templates, tokens
from hanlin.testing import reply as replying
from hanlin.testing import rules as ruling
from hanlin.testing.ask import Ask
from hanlin.testing.connection import Answer, Request, Totals
from hanlin.testing.frames import Envelope, Json, Speaker
from hanlin.testing.llama_style import LlamaSpeaker
from hanlin.testing.memory import Passes, PrefixCache
from hanlin.testing.native_style import NativeSpeaker
from hanlin.testing.openai_style import OpenAISpeaker
from hanlin.testing.records import Record, Records, masked
from hanlin.testing.reply import Reply
from hanlin.testing.rules import DEFAULT_RULE, Rule, Setup, Style
from hanlin.testing.schema import SchemaError
from hanlin.testing.script import Step

_SPEAKERS: Mapping[Style, type[Speaker]] = {"openai": OpenAISpeaker, "llama": LlamaSpeaker}
_MODELS: Mapping[Style, tuple[str, ...]] = {"openai": ("fake",), "llama": ("m.gguf",)}
_PREFIXES = ("/compatible-mode", "/v1")
Kind = Literal["chat", "completion", "native"]

_READ_RULES = msgspec.json.Decoder(tuple[Rule, ...])


class Engine:
    """Everything that the fake knows while it runs."""

    def __init__(self, setup: Setup, now: Callable[[], float] = time.time) -> None:
        self._setup = setup
        self._now = now
        self._ready_at = now() + setup.loading_s
        self._rules: Sequence[Rule] = setup.rule
        self._used = [0] * len(setup.rule)
        self._records = Records()
        self._totals = Totals()
        self._passes = Passes()
        self._cache = PrefixCache()
        self._names = setup.models or _MODELS[setup.style]
        self._run = secrets.token_hex(4)  # ids of two fakes must not be the same
        self._routes: Mapping[tuple[str, str], Callable[[Request], Answer]] = {
            ("POST", "/chat/completions"): self._chat,
            ("POST", "/completions"): self._completion,
            ("POST", "/embeddings"): self._embeddings,
            ("GET", "/models"): self._models,
            ("GET", "/health"): self._health,
            ("GET", "/props"): self._props,
            ("GET", "/slots"): self._slots,
            ("GET", "/metrics"): self._metrics,
            ("POST", "/tokenize"): self._tokenize,
            ("POST", "/detokenize"): self._detokenize,
            ("POST", "/apply-template"): self._apply_template,
            ("GET", "/requests"): self._list_requests,
            ("DELETE", "/requests"): self._forget_requests,
            ("GET", "/rules"): self._list_rules,
            ("PUT", "/rules"): self._replace_rules,
        }
        self._while_loading = {  # a test looks on, and calls to generate are refused where they are noted
            *(self._list_requests, self._forget_requests, self._list_rules, self._replace_rules),
            *(self._chat, self._completion, self._native),
        }
        # llama.cpp's own completions have no prefix; there, only what is below /v1 speaks OpenAI's.
        unprefixed = ("/completion", "/completions") if setup.style == "llama" else ("/completion",)
        self._unprefixed = {("POST", path): self._native for path in unprefixed}

    def respond(self, request: Request) -> Answer:
        """Return the answer to a request, ready to be played."""
        path = request.path
        for prefix in _PREFIXES:
            path = path.removeprefix(prefix)
        route = self._unprefixed.get((request.method, request.path)) or self._routes.get((request.method, path))
        if route is None:
            known = path in {other for _, other in self._routes} or request.path in {one for _, one in self._unprefixed}
            return self._error(405 if known else 404, f"{request.method} {request.path} is not served here")
        if self._loading and route not in self._while_loading:
            return self._error(503, "Loading model")
        try:
            return route(request)
        except ValueError as error:  # what cannot be decoded, or is not what the endpoint takes
            return self._error(400, str(error))

    @property
    def _loading(self) -> bool:
        return self._now() < self._ready_at

    # Generating

    def _chat(self, request: Request) -> Answer:
        return self._generate(request, "chat")

    def _completion(self, request: Request) -> Answer:
        return self._generate(request, "completion")

    def _native(self, request: Request) -> Answer:
        return self._generate(request, "native")

    def _generate(self, request: Request, kind: Kind) -> Answer:
        record = self._record(request)
        try:
            return self._reply(request, record, kind)
        except Exception as error:  # a request ends here: the others, and what was asked, must outlive a bug of ours
            traceback.print_exc()
            return self._failing(record, 500, self._speaker.error(record.id, 500, repr(error)))

    def _reply(self, request: Request, record: Record, kind: Kind) -> Answer:
        refusing: type[Speaker] = NativeSpeaker if kind == "native" else self._speaker
        try:
            ask = self._read(request, record, kind)
        except ValueError as error:
            if record.body is None:
                record.body = request.body.decode("utf-8", "replace")
            return self._failing(record, 400, refusing.error(record.id, 400, str(error)))
        if self._loading:
            return self._failing(record, 503, refusing.error(record.id, 503, "Loading model"))
        record.prompt_tokens = ask.prompt_tokens
        self._totals.prompt_tokens += ask.prompt_tokens
        if 0 < self._setup.context_tokens < ask.prompt_tokens:
            refusal = refusing.too_long(record.id, ask.prompt_tokens, self._setup.context_tokens)
            return self._failing(record, 400, refusal)
        record.rule, rule = self._pick(ask)
        style = rule.style or self._setup.style
        speaking: type[Speaker] = NativeSpeaker if ask.native else _SPEAKERS[style]
        if rule.status is not None:
            return self._scripted(record, rule, speaking)
        model = ask.model if style == "openai" and not ask.native else self._names[0]
        speaker = speaking(Envelope(record.id, int(record.started_at), model), ask, rule)
        try:
            reply = self._composed(rule, ask)
        except SchemaError as error:
            return self._failing(record, 400, speaker.error(record.id, 400, str(error)))
        self._remember(ask, reply, record.rule, rule)
        steps = (
            script.streamed(reply, rule, speaker, include_usage=ask.include_usage)
            if ask.stream
            else script.unstreamed(reply, rule, speaker)
        )
        return Answer(steps, record, self._totals)

    def _read(self, request: Request, record: Record, kind: Kind) -> Ask:
        body = msgspec.json.decode(request.body)
        record.body = msgspec.Raw(request.body)
        if kind != "native":
            continues = self._setup.style == "llama"
            return asking.read(body, chat=kind == "chat", template=self._setup.template, continues=continues)
        ask = asking.read_native(body)
        if not grammar.parses(body.get("grammar") or "root ::= "):
            raise ValueError("Failed to initialize samplers: failed to parse grammar")
        return ask

    def _composed(self, rule: Rule, ask: Ask) -> Reply:
        cached = self._cache.cached(ask.prompt) if self._setup.prefix_cache else 0
        if ask.native:
            return native.compose(rule, ask, cached, self._setup.context_tokens)
        return replying.compose(rule, ask, cached)

    def _remember(self, ask: Ask, reply: Reply, index: int | None, rule: Rule) -> None:
        if not ask.native and not self._setup.prefix_cache:
            return
        made = "".join(chunk.text for chunk in reply.choices[0].chunks)
        if ask.native:
            self._passes.keep(ask, made, index, rule)
        if self._setup.prefix_cache:
            self._cache.keep(ask.prompt + made)

    def _record(self, request: Request) -> Record:
        self._totals.requests += 1
        record = Record(
            id=f"chatcmpl-{self._run}-0000-4000-8000-{self._totals.requests:012x}",
            path=request.path,
            body=None,
            headers=masked(request.headers),
            started_at=self._now(),
        )
        self._records.add(record, len(request.body))
        return record

    def _pick(self, ask: Ask) -> tuple[int | None, Rule]:
        if ask.native and (before := self._passes.before(ask)) is not None:
            return before.index, before.rule
        for index, rule in enumerate(self._rules):
            spent = rule.times is not None and self._used[index] >= rule.times
            if not spent and ruling.takes(
                rule, model=ask.model, question=ask.question, stream=ask.stream, body=ask.body
            ):
                self._used[index] += 1
                return index, rule
        return None, DEFAULT_RULE

    def _scripted(self, record: Record, rule: Rule, speaker: type[Speaker]) -> Answer:
        status = rule.status or 500
        message = "Loading model" if status == 503 else f"the fake engine answers {status}, as its rule says"
        body = rule.body if rule.body is not None else speaker.error(record.id, status, message)
        return Answer(script.error(status, body, rule.headers, rule.first_delay_s), record)

    def _failing(self, record: Record, status: int, body: Json) -> Answer:
        return Answer(script.error(status, body, {}), record)

    @property
    def _speaker(self) -> type[Speaker]:
        return _SPEAKERS[self._setup.style]

    def _embeddings(self, request: Request) -> Answer:
        record = self._record(request)
        record.body = request.body.decode("utf-8", "replace")
        try:
            body = msgspec.json.decode(request.body)
            record.body = msgspec.Raw(request.body)
            answer = embeddings.answer(body, self._names[0])
            record.prompt_tokens = embeddings.count(body)
        except ValueError as error:
            return self._failing(record, 400, self._speaker.error(record.id, 400, str(error)))
        if self._loading:
            return self._failing(record, 503, self._speaker.error(record.id, 503, "Loading model"))
        record.rule, rule = self._pick(asking.read({**body, "prompt": body["input"]}, chat=False))
        if rule.status is not None:
            return self._scripted(record, rule, self._speaker)
        failure = self._speaker.error(record.id, 500, "the fake engine failed, as its rule says")
        return Answer(script.given(msgspec.json.encode(answer), rule, failure), record, self._totals)

    # What an engine tells about itself

    def _models(self, _request: Request) -> Answer:
        rows = [{"id": name, "object": "model", "created": 0, "owned_by": "hanlin-testing"} for name in self._names]
        return _json({"object": "list", "data": rows})

    def _health(self, _request: Request) -> Answer:
        return _json({"status": "ok"})

    def _props(self, _request: Request) -> Answer:
        settings = {"n_ctx": self._setup.context_tokens}
        return _json(
            {"default_generation_settings": settings, "total_slots": self._setup.slots, "model_path": self._names[0]}
        )

    def _slots(self, _request: Request) -> Answer:
        busy = sum(record.state == "running" for record in self._records.rows())
        size = max(busy, self._setup.slots)
        context = self._setup.context_tokens
        return _json([{"id": nth, "n_ctx": context, "is_processing": nth < busy} for nth in range(size)])

    def _metrics(self, _request: Request) -> Answer:
        values = {
            "prompt_tokens_total": ("counter", self._totals.prompt_tokens),
            "tokens_predicted_total": ("counter", self._totals.tokens_made),
            "requests_processing": ("gauge", sum(record.state == "running" for record in self._records.rows())),
        }
        lines = [f"# TYPE llamacpp:{name} {kind}\nllamacpp:{name} {value}\n" for name, (kind, value) in values.items()]
        return _whole("".join(lines).encode(), {"content-type": "text/plain; version=0.0.4"})

    def _tokenize(self, request: Request) -> Answer:
        body = _object(request)
        ids = tokens.encode(str(body.get("content", "")))
        if body.get("with_pieces") is True:
            return _json({"tokens": [{"id": one, "piece": tokens.decode([one])} for one in ids]})
        return _json({"tokens": ids})

    def _detokenize(self, request: Request) -> Answer:
        return _json({"content": tokens.decode(msgspec.convert(_object(request).get("tokens", []), list[int]))})

    def _apply_template(self, request: Request) -> Answer:
        body = _object(request)
        messages = msgspec.convert(body.get("messages", []), list[dict[str, Any]])
        continued = asking.is_continued(body, messages, continues=self._setup.style == "llama")
        thinks = ruling.value_at(body, "chat_template_kwargs.enable_thinking")
        prompt = templates.prompt(
            self._setup.template, messages, body.get("tools") or (), thinks=thinks, continued=continued
        )
        return _json({"prompt": prompt})

    # What a test asks and sets

    def _list_requests(self, _request: Request) -> Answer:
        return _json(self._records.rows())

    def _forget_requests(self, _request: Request) -> Answer:
        self._records.clear()
        return _json([])

    def _list_rules(self, _request: Request) -> Answer:
        return _json(self._rules)

    def _replace_rules(self, request: Request) -> Answer:
        self._rules = _READ_RULES.decode(request.body)
        self._used = [0] * len(self._rules)
        self._passes = Passes()
        return _json(self._rules)

    def _error(self, status: int, message: str) -> Answer:
        return Answer(script.error(status, self._speaker.error("", status, message), {}))


def _json(value: Any) -> Answer:
    return _whole(msgspec.json.encode(value), {})


def _whole(body: bytes, headers: Mapping[str, str]) -> Answer:
    return Answer(iter([Step(script.answer(200, body, headers), end="whole")]))


def _object(request: Request) -> dict[str, Any]:
    return msgspec.json.decode(request.body, type=dict[str, Any])
