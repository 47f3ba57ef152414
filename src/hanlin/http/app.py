"""The HTTP surface: paths, keys, and the hand-over between dialects and `service`."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from time import monotonic
from typing import Any
from urllib.parse import unquote

import msgspec

from hanlin.dialects import flat, nested, openai_chat, openai_completions, openai_embeddings
from hanlin.dialects.compatible.errors import error, error_frame
from hanlin.errors import EngineUnavailable, HanlinError, InternalError, MethodNotAllowed, PathNotFound
from hanlin.http import files, native_files, tokens
from hanlin.http.accounts import Account
from hanlin.http.admin import serving as administering
from hanlin.http.endings import Endings
from hanlin.http.exchange import Exchange, Gone, log, new_id
from hanlin.http.gathering import Others, packed, page_of_all
from hanlin.http.heads import line, lines
from hanlin.http.metrics import Accounts, DeploymentState, Metrics
from hanlin.http.streaming import Frames, StreamedAnswer
from hanlin.http.traces import Tracer
from hanlin.metering.reserving import Reservation
from hanlin.service import chat, completion, embedding
from hanlin.service.accounting import Bill
from hanlin.service.administration.operations import PREFIX
from hanlin.service.attempts import Call
from hanlin.service.charging import Most, most_of, most_of_text
from hanlin.service.chat import ChatCall
from hanlin.service.contents import Conversation
from hanlin.service.crew.engines import RemoteEngine
from hanlin.service.deployments import Deployment
from hanlin.service.embedding_planning import EmbeddingDeployment
from hanlin.service.scenarios import InnerBills, ScenarioCall
from hanlin.service.studio import Card, Studio
from hanlin.store.rows import KeyRow
from hanlin.types import Answering, Events
from hanlin.words import say

BASE = "/compatible-mode/v1"
PREFIXES = (BASE, "/v1")

_LAST_WORD_S = 1.0
_LISTED_NAMES = 32
_NAME_CHARACTERS = 64
_LONG_ANSWER_TOKENS = 8192

Handler = Callable[["App", Exchange], Awaitable[None]]


class App:
    """Answers every request. One object a process; `studio` is what it stands in front of, `tracer` takes its calls.

    `others` is where the metrics of a service's other processes come from, where it has several.
    """

    def __init__(self, studio: Studio, tracer: Tracer | None = None, others: Others | None = None) -> None:
        self.studio = studio
        self.others = others
        self.metrics = Metrics(
            lambda name: studio.catalogue.find(name) is not None,
            lambda: [gauges(studio, one) for one in studio.deployments if not isinstance(one.engine, RemoteEngine)],
            lambda: self.open_calls,
            lambda: accounts_of(studio),
        )
        self.reader = openai_chat.Reader()
        self._tracer = tracer
        self.idle = asyncio.Event()  # set while no call is open
        self.idle.set()
        self._calls: set[asyncio.Task[Any]] = set()
        self._cutting = False
        self._endings = Endings(self._ended, studio.accounting.together)

    async def __call__(self, exchange: Exchange) -> None:
        call = exchange.task
        assert call is not None
        if not self._calls:
            self.idle.clear()
        self._calls.add(call)
        exchange.endings = self._endings
        try:
            await self._handle(exchange)
        finally:
            if not exchange.held:
                self._ended(exchange)

    def _ended(self, exchange: Exchange) -> None:
        """Settle and count a call whose answer was written, as far as it was."""
        try:
            if (account := exchange.account) is not None:
                if not exchange.held:  # else it is settled
                    exchange.settle()
                record = exchange.record(account)
                self.metrics.note(record)
                if self._tracer is not None:
                    self._tracer.record(record, exchange.header("traceparent"))
        finally:
            if exchange.task is not None:
                self._calls.discard(exchange.task)
            if not self._calls:
                self.idle.set()

    @property
    def open_calls(self) -> int:
        return len(self._calls)

    def cut(self) -> None:
        """End every open call with an error, because the service ends."""
        self._cutting = True
        for call in self._calls:
            call.cancel()

    async def _handle(self, exchange: Exchange) -> None:
        methods = ROUTES.get(exchange.path)
        handler = None if methods is None else methods.get(exchange.method)
        try:
            await (handler or self._other(exchange))(self, exchange)
        except Gone:
            exchange.status = exchange.status or 499
        except asyncio.CancelledError:
            if not self._cutting:
                raise
            await self._cut_short(exchange)
        except HanlinError as problem:
            await self._refuse(exchange, problem)
        except Exception:  # the end of a request: whatever it was, its client gets an answer and the log the traceback
            log.exception("%s: %s %s failed", exchange.id, exchange.method, exchange.path)
            await self._refuse(exchange, InternalError())
        exchange.log()

    def _other(self, exchange: Exchange) -> Handler:
        """Return what answers where no path and method fit."""
        if exchange.path.startswith(ADMIN_PATHS):
            return _administer
        if exchange.path.startswith(FILE_PATHS):
            return _files
        if exchange.path.startswith(NATIVE_FILE_PATHS):
            return _native_files
        is_model = exchange.path.startswith(MODEL_PATHS)
        if is_model and exchange.method == "GET":
            return _model
        return _not_allowed if is_model or exchange.path in ROUTES else _not_found

    async def _cut_short(self, exchange: Exchange) -> None:
        problem = exchange.problem = EngineUnavailable(say("the service was shut down", "服务已关闭"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORD_S):
                if exchange.started:
                    await exchange.write(error_frame(problem, exchange.id))
                    await exchange.end()
                await self._refuse(exchange, problem)

    async def _refuse(self, exchange: Exchange, problem: HanlinError) -> None:
        if exchange.started:
            return
        if problem.retry_after_s is not None:
            exchange.extra_headers["retry-after"] = str(problem.retry_after_s)
        if problem.should_retry is not None:
            exchange.extra_headers["x-should-retry"] = str(problem.should_retry).lower()
        exchange.extra_headers.update(problem.headers)
        exchange.problem = problem
        await exchange.answer(problem.status, _errors_of(exchange.path)(problem, exchange.id))


async def _chat(app: App, exchange: Exchange) -> None:
    studio = app.studio
    account = exchange.account = Account("chat")
    header = exchange.headers.get(b"authorization", b"")
    key = studio.keyring.known(header) or await studio.keyring.authenticate(exchange.bearer(), header)
    ends_s, began = exchange.ends_s, exchange.began
    ends_s["key"] = monotonic() - began
    channel, limit_bytes = exchange.channel, studio.settings.max_body_bytes
    request = app.reader.read(channel.taken(limit_bytes) if channel.complete else await channel.body(limit_bytes))
    ends_s["body"] = monotonic() - began
    account.model, account.stream = request.model, request.stream
    accounting = studio.accounting
    accounting.permit(key, "chat", request.model, exchange.peer)
    call = studio.call(request, began=began, ends_s=ends_s, who=key.id, workspace=key.workspace_id)
    plan = call.plan
    subjects = accounting.subjects(key, request.model)
    most = most_of(plan.request, plan.model, plan.answering, call.asked.route) if subjects else None
    reservation = None if most is None else await accounting.reserve(subjects, most, exchange.id)
    account.call = call
    conversation: Conversation | None = None
    if reservation is not None or accounting.keeps_rows:
        bill = _billed(
            studio, exchange, key, plan.answering, call.prompt_tokens, reservation, isinstance(call, ScenarioCall)
        )
        call.came, conversation = bill.delivered, bill.conversation
        if isinstance(call, ScenarioCall):
            call.bills = InnerBills(accounting, bill, key, new_id)
        if conversation is not None:
            conversation.asked_chat(request)
    ends_s["plan"] = monotonic() - began
    exchange.statement = partial(_call_statement, call)
    if request.stream:
        await exchange.unless_gone(_streamed(studio, exchange, call, conversation))
    else:
        await exchange.unless_gone(_whole(studio, exchange, call, conversation))


async def _admitted(studio: Studio, exchange: Exchange, key: KeyRow, call: Call[Any, Any], most: Most) -> Bill:
    """Hold what a call may use, and begin its bill. Chat does the same in fewer steps. Raises as `reserve` does."""
    account = exchange.account
    assert account is not None
    subjects = studio.accounting.subjects(key, account.model)
    reservation = await studio.accounting.reserve(subjects, most, exchange.id) if subjects else None
    account.call = call
    return _billed(studio, exchange, key, call.plan.answering, call.prompt_tokens, reservation)


def _billed(
    studio: Studio,
    exchange: Exchange,
    key: KeyRow,
    answering: Answering,
    prompt_tokens: int,
    reservation: Reservation | None,
    has_inner: bool = False,
) -> Bill:
    """Begin the bill of a call that is about to be made. `has_inner`: by a recipe, whose calls have bills below it."""
    account = exchange.account
    assert account is not None
    bill = account.bill = studio.accounting.begin(
        key,
        exchange.id,
        account.operation,
        answering,
        stream=account.stream,
        began_unix_s=exchange.began_unix_s,
        prompt_tokens=prompt_tokens,
        reservation=reservation,
        has_inner=has_inner,
    )
    if reservation is not None:
        exchange.lines = bill.rates()
    return bill


async def _caller(studio: Studio, exchange: Exchange) -> KeyRow:
    header = exchange.headers.get(b"authorization", b"")
    key = studio.keyring.known(header) or await studio.keyring.authenticate(exchange.bearer(), header)
    exchange.ends_s["key"] = monotonic() - exchange.began
    return key


async def _whole(studio: Studio, exchange: Exchange, call: ChatCall, conversation: Conversation | None) -> None:
    result = await chat.complete(call, studio.settings.unstreamed_limit_s)
    if conversation is not None:
        conversation.answered(result.choices)
    if result.cut_short:
        if exchange.account is not None:
            exchange.account.usage = result.usage
        exchange.extra_headers["x-dashscope-partialresponse"] = "true"
    body = openai_chat.answer(result, call.plan.answering, id=f"chatcmpl-{exchange.id}", created=exchange.created)
    await exchange.answer(200, body)


async def _streamed(studio: Studio, exchange: Exchange, call: ChatCall, conversation: Conversation | None) -> None:
    frames = (openai_chat.CumulativeStream if call.plan.model.cumulative else openai_chat.Stream)(
        call.answering,
        id=f"chatcmpl-{exchange.id}",
        created=exchange.created,
        n=call.plan.request.n,
        include_usage=call.plan.request.include_usage,
        thinks=call.plan.request.thinking.on,
        end_chunks=call.plan.model.end_chunks,
    )
    call.changed = frames.answered_by
    events = chat.generate(call)
    if conversation is not None:
        events = conversation.hearing(events)
    await _send(studio, exchange, frames, events)


async def _send(studio: Studio, exchange: Exchange, frames: Frames, events: Events) -> None:
    settings = studio.settings
    answer = StreamedAnswer(exchange, frames, keepalive_s=settings.keepalive_s, reader_stall_s=settings.reader_stall_s)
    await answer.run(events)


async def _completions(app: App, exchange: Exchange) -> None:
    studio = app.studio
    account = exchange.account = Account("text_completion")
    ends_s, began = exchange.ends_s, exchange.began
    key = await _caller(studio, exchange)
    request = openai_completions.parse(await exchange.body(studio.settings.max_body_bytes))
    ends_s["body"] = monotonic() - began
    account.model, account.stream = request.model, request.stream
    studio.accounting.permit(key, account.operation, request.model, exchange.peer)
    call = studio.completion(request, began=began, ends_s=ends_s, who=key.id)
    plan = call.plan
    texts = (request.prompt, request.suffix or "")
    output_tokens = request.sampling.max_tokens or plan.model.output_limit_tokens() or _LONG_ANSWER_TOKENS
    bill = await _admitted(studio, exchange, key, call, most_of_text(texts, output_tokens, plan.answering))
    call.came, conversation = bill.delivered, bill.conversation
    if conversation is not None:
        conversation.asked_completion(request)
    ends_s["plan"] = monotonic() - began
    exchange.statement = partial(_call_statement, call)
    about: dict[str, Any] = {"id": f"cmpl-{exchange.id}", "created": exchange.created}
    if request.stream:
        frames = openai_completions.Stream(plan.answering, include_usage=request.include_usage, **about)
        call.changed = frames.answered_by
        events = call.choice()
        await exchange.unless_gone(
            _send(studio, exchange, frames, events if conversation is None else conversation.hearing(events))
        )
        return
    result = await exchange.unless_gone(completion.complete(call, studio.settings.unstreamed_limit_s))
    if conversation is not None:
        conversation.answered(result.choices)
    if result.cut_short:
        exchange.extra_headers["x-dashscope-partialresponse"] = "true"
        account.usage = result.usage
    await exchange.answer(200, openai_completions.answer(result, call.answering, **about))


async def _embeddings(app: App, exchange: Exchange) -> None:
    studio = app.studio
    account = exchange.account = Account("embeddings")
    ends_s, began = exchange.ends_s, exchange.began
    key = await _caller(studio, exchange)
    request = openai_embeddings.parse(await exchange.body(studio.settings.max_body_bytes))
    ends_s["body"] = monotonic() - began
    account.model = request.model
    studio.accounting.permit(key, account.operation, request.model, exchange.peer)
    call = studio.embedding(request, began=began, ends_s=ends_s, who=key.id)
    bill = await _admitted(studio, exchange, key, call, most_of_text(request.texts, 0, call.plan.answering))
    if bill.conversation is not None:
        bill.conversation.asked_vectors(request.texts)
    ends_s["plan"] = monotonic() - began
    exchange.statement = partial(_call_statement, call)
    result = await exchange.unless_gone(embedding.embed(call, studio.settings.unstreamed_limit_s))
    body = openai_embeddings.answer(result, call.answering, id=exchange.id, encoding=request.encoding)
    await exchange.answer(200, body)


def _call_statement(call: Call[Any, Any]) -> str:
    """Return the lines of a head that say what answered, and what was tried before."""
    answering = call.plan.answering
    if call.at_once:
        return _at_once(answering)
    return _statement(answering) + line("x-hanlin-attempts", call.tried())


@lru_cache(maxsize=512)
def _at_once(answering: Answering) -> str:
    return _statement(answering) + line("x-hanlin-attempts", answering.deployment)


@lru_cache(maxsize=512)
def _statement(answering: Answering) -> str:
    """Return the lines of a head that say what answered."""
    headers = {"x-hanlin-served-by": f"{answering.served}; {answering.fingerprint}"}
    if answering.ignored:
        headers["x-hanlin-ignored"] = _listed(answering.ignored)
    if answering.thinking:
        headers["x-hanlin-thinking"] = answering.thinking
    return lines(headers)


def _listed(names: Sequence[str]) -> str:
    """Join names for a header; a caller may have sent any number of them, of any length."""
    listed = [name[:_NAME_CHARACTERS] for name in names[:_LISTED_NAMES]]
    more = len(names) - len(listed)
    return ", ".join([*listed, f"and {more} more"] if more else listed)


async def _models(app: App, exchange: Exchange) -> None:
    await _caller(app.studio, exchange)
    rows = [_row(app.studio, card) for card in app.studio.cards()]
    await exchange.answer(200, msgspec.json.encode({"object": "list", "data": rows}))


async def _model(app: App, exchange: Exchange) -> None:
    await _caller(app.studio, exchange)
    name = next(exchange.path.removeprefix(prefix) for prefix in MODEL_PATHS if exchange.path.startswith(prefix))
    await exchange.answer(200, msgspec.json.encode(_row(app.studio, app.studio.card(unquote(name)))))


def _row(studio: Studio, card: Card) -> dict[str, Any]:
    """Return a row of the list: OpenAI's four fields, and under `hanlin` what the name promises and what answers it."""
    deployment = card.serving.deployment
    state = studio.state(deployment) if isinstance(deployment, Deployment) else None
    return {
        "id": card.name,
        "object": "model",
        "created": _month(card.model.as_of),
        "owned_by": card.model.owner,
        "hanlin": {
            "served": card.serving.served,
            "by": deployment.title if deployment is not None else None,
            "fingerprint": deployment.fingerprint if deployment is not None else None,
            "why": card.serving.why or None,
            "state": state.word if state is not None else None,
            "reason": (state.why_not or None) if state is not None else None,
            "context_tokens": deployment.context_tokens if deployment is not None else None,
            "promises": {
                "description": card.model.description,
                "context_tokens": card.model.context_tokens,
                "max_output_tokens": card.model.max_output_tokens,
                "thinking": card.model.thinking,
                "features": card.model.features,
                "lifecycle": card.model.lifecycle.status,
            },
        },
    }


def _month(as_of: str) -> int:
    """Return the start of the month that a row was read in, in seconds: the vendor publishes no time of creation."""
    year, month = as_of.split("-")[:2]
    return int(datetime(int(year), int(month), 1, tzinfo=UTC).timestamp())


async def _health(app: App, exchange: Exchange) -> None:
    studio = app.studio
    body: dict[str, Any] = {
        "status": "ok" if studio.why_not_ready() is None else "degraded",
        "deployments": [_state(studio, deployment) for deployment in studio.deployments],
        "embeddings": [_state(studio, deployment) for deployment in studio.embedding_deployments],
    }
    if studio.processes:
        body["workers"] = studio.processes
    await exchange.answer(200, msgspec.json.encode(body))


def _state(studio: Studio, deployment: Deployment | EmbeddingDeployment) -> dict[str, Any]:
    state = studio.state(deployment)
    return {
        "name": deployment.name,
        "title": deployment.title,
        "state": state.word,
        "running": deployment.capacity.running,
        "waiting": deployment.capacity.waiting,
        "slots": deployment.capacity.slots,
        "reason": state.why_not or deployment.standing.health.why or None,
        "outstanding_tokens": deployment.standing.outstanding_tokens,
    }


async def _metrics(app: App, exchange: Exchange) -> None:
    app.metrics.read()
    accept = exchange.header("accept") or ""
    if app.others is None:
        page, content_type = await asyncio.to_thread(app.metrics.page, accept)
    else:
        others, here, registry = await app.others.pages(), app.others.here, app.metrics.registry
        page, content_type = await asyncio.to_thread(lambda: page_of_all({**others, here: packed(registry)}, accept))
    await exchange.answer(200, page, content_type)


def accounts_of(studio: Studio) -> Accounts:
    """Return how what is kept of calls stands, as the metrics of this process say it."""
    accounting = studio.accounting
    standing, retention = accounting.meter.standing(), studio.retention.state()
    return Accounts(accounting.ledger_state(), standing, retention, studio.store.failures)


def gauges(studio: Studio, deployment: Deployment) -> DeploymentState:
    """Return how a deployment is, as the metrics of this process say it."""
    counters = deployment.engine.counters()
    running, waiting, slots = deployment.capacity.here()
    return DeploymentState(
        deployment.name,
        studio.state(deployment).word,
        running=running,
        waiting=waiting,
        slots=slots,
        outstanding_tokens=deployment.standing.outstanding_tokens,
        restarts=counters.restarts,
        connections=counters.connections,
    )


async def _ready(app: App, exchange: Exchange) -> None:
    why = app.studio.why_not_ready()
    if why is not None:
        exchange.extra_headers["retry-after"] = "2"
    body = {"ready": why is None, "reason": why}
    await exchange.answer(200 if why is None else 503, msgspec.json.encode(body))


async def _administer(app: App, exchange: Exchange) -> None:
    await administering.answer(app.studio, exchange)


async def _files(app: App, exchange: Exchange) -> None:
    await files.answer(app.studio, exchange, exchange.path.partition("/files")[2])


async def _native_files(app: App, exchange: Exchange) -> None:
    await native_files.answer(app.studio, exchange, exchange.path.removeprefix(native_files.PATH))


async def _tokens(app: App, exchange: Exchange) -> None:
    await tokens.answer(app.studio, exchange)


def _errors_of(path: str) -> Callable[[HanlinError, str], bytes]:
    """Return what writes the errors of a path: there are three envelopes, and no surface mixes them."""
    return next((written for prefix, written in _ENVELOPES if path.startswith(prefix)), error)


async def _not_found(_app: App, exchange: Exchange) -> None:
    raise PathNotFound(f"There is no {exchange.shown_path()} here: the base URL of programs ends with {BASE}")


async def _not_allowed(_app: App, exchange: Exchange) -> None:
    exchange.extra_headers["allow"] = ", ".join(ROUTES.get(exchange.path, {"GET": _model}))
    raise MethodNotAllowed(exchange.method)


ADMIN_PATHS = f"{PREFIX}/"

FILES = tuple(f"{prefix}/files" for prefix in PREFIXES)
FILE_PATHS = tuple(f"{path}/" for path in FILES)
NATIVE_FILE_PATHS = f"{native_files.PATH}/"

_ENVELOPES = (
    (ADMIN_PATHS, nested.error),
    (tokens.PATH, flat.error),
    (native_files.PATH, native_files.error),
    *((path, nested.error) for path in FILES),
)

MODEL_PATHS = tuple(f"{prefix}/models/" for prefix in PREFIXES)

ROUTES: Mapping[str, Mapping[str, Handler]] = {
    **{f"{prefix}/chat/completions": {"POST": _chat} for prefix in PREFIXES},
    **{f"{prefix}/completions": {"POST": _completions} for prefix in PREFIXES},
    **{f"{prefix}/embeddings": {"POST": _embeddings} for prefix in PREFIXES},
    **{f"{prefix}/models": {"GET": _models} for prefix in PREFIXES},
    **{path: {"GET": _files, "POST": _files} for path in FILES},
    native_files.PATH: {"GET": _native_files, "POST": _native_files},
    tokens.PATH: {"POST": _tokens},
    "/health": {"GET": _health},
    "/ready": {"GET": _ready},
    "/metrics": {"GET": _metrics},
}
