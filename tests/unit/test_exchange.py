"""One request and its response: bodies within limits, keys, hang-ups, headers, and the line in the log."""

import asyncio
import logging
import time
import uuid
from email.utils import parsedate_to_datetime

import pytest

from hanlin.errors import BodyTooLarge, EngineUnavailable
from hanlin.http.accounts import Account
from hanlin.http.exchange import Exchange, Gone
from hanlin.testing import ScriptedEngine
from tests.http_peer import Peer
from tests.values import call_of, plan_of


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/keys", "/keys", ""),
        ("/keys?", "/keys", ""),
        ("/keys?limit=1&after=a%20b", "/keys", "limit=1&after=a%20b"),
        ("/keys?a=b?c", "/keys", "a=b?c"),
        ("http://hanlin/keys?limit=1", "/keys", "limit=1"),
        ("http://hanlin?limit=1", "/", "limit=1"),
    ],
)
async def test_a_target_is_a_path_and_what_is_asked_of_it(target: str, path: str, query: str) -> None:
    """Also where the whole address was sent, as through a proxy."""
    exchange = await Peer(path=target).exchange()

    assert (exchange.path, exchange.query) == (path, query)


async def test_a_body_is_read_to_its_end_however_it_is_cut() -> None:
    """Servers hand bodies over in pieces of their own choice."""
    assert await (await Peer(b"he", b"", b"llo").exchange()).body(100) == b"hello"
    assert await (await Peer().exchange()).body(100) == b""


@pytest.mark.parametrize("size", [9, 10])
async def test_a_body_may_be_as_large_as_the_limit(size: int) -> None:
    """The limit itself is inside."""
    peer = Peer(b"x" * size, headers={"content-length": str(size)})

    assert len(await (await peer.exchange()).body(10)) == size


async def test_a_body_that_says_it_is_too_large_is_refused_unread() -> None:
    """Spec §12: `BadRequest.TooLarge`, with the limit."""
    peer = Peer(b"", headers={"content-length": "11"}, finish_body=False)

    with pytest.raises(BodyTooLarge, match="max bytes to request body : 10"):
        await (await peer.exchange()).body(10)


async def test_a_body_that_does_not_say_how_large_it_is_is_refused_as_soon_as_it_is_too_large() -> None:
    """Chunked bodies have no length; here the rest never comes, so the whole must not be waited for."""
    peer = Peer(b"x" * 6, b"x" * 5, finish_body=False)

    async with asyncio.timeout(10):
        with pytest.raises(BodyTooLarge):
            await (await peer.exchange()).body(10)


async def test_a_client_that_leaves_while_it_sends_is_gone() -> None:
    """Half a body is no request."""
    peer = Peer(b"half", finish_body=False)
    peer.hang_up()

    with pytest.raises(Gone):
        await (await peer.exchange()).body(10)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        ("Bearer sk-1", "sk-1"),
        ("bearer  sk-1 ", "sk-1"),
        ("BEARER sk-1", "sk-1"),
        ("Bearer", None),
        ("Bearer  ", None),
        ("Basic sk-1", None),
        ("sk-1", None),
        ("", None),
        (None, None),
    ],
)
async def test_the_key_is_the_bearer_token(header: str | None, key: str | None) -> None:
    """The scheme's case does not matter, any other scheme is no key."""
    peer = Peer(headers={"authorization": header} if header is not None else {})

    assert (await peer.exchange()).bearer() == key


async def test_work_that_ends_before_the_client_leaves_has_its_result() -> None:
    """The usual case, failures included."""

    async def fails() -> None:
        raise EngineUnavailable("loading")

    assert await (await Peer().exchange()).unless_gone(asyncio.sleep(0, "done")) == "done"
    with pytest.raises(EngineUnavailable):
        await (await Peer().exchange()).unless_gone(fails())


async def test_a_client_that_hangs_up_cancels_the_work_for_it() -> None:
    """The work has ended, its clean-up included, when this is known: an engine must not go on for nobody."""
    peer, log = Peer(), list[str]()

    async def work() -> None:
        try:
            log.append("began")
            peer.hang_up()
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            log.append("cleaned up")

    async def handle(exchange: Exchange) -> None:
        await exchange.body(10)
        try:
            await exchange.unless_gone(work())
        except Gone:
            log.append("gone")

    async with asyncio.timeout(10):
        await peer.call(handle)

    assert log == ["began", "cleaned up", "gone"]


async def test_an_answer_has_its_length_its_type_and_an_id_that_finds_its_log_lines() -> None:
    """spec/surfaces.md §9: always send `x-request-id`."""
    peer = Peer()
    exchange = await peer.exchange()
    exchange.extra_headers["x-more"] = "1"

    await exchange.answer(418, b"{}")

    assert (peer.status, peer.body, peer.ended) == (418, b"{}", True)
    assert abs(parsedate_to_datetime(peer.headers.pop("date")).timestamp() - time.time()) < 10
    assert peer.headers == {
        "content-type": "application/json",
        "x-request-id": exchange.id,
        "x-more": "1",
        "content-length": "2",
    }
    assert len(peer.line.pieces) == 1
    assert uuid.UUID(exchange.id)


async def test_every_request_has_an_id_of_its_own() -> None:
    """Also when a client sends one: two requests must never share their log lines."""
    peer = Peer(headers={"x-request-id": "mine"})

    ids = [(await peer.exchange()).id for _ in range(300)]

    assert len(set(ids)) == 300
    assert "mine" not in ids
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in ids} == {(7, uuid.RFC_4122)}
    assert [str(uuid.UUID(one)) for one in ids] == ids
    assert ids[0][:13] <= ids[-1][:13], "they grow with time, which is how a ledger stores them fastest"


@pytest.mark.parametrize(
    ("value", "sent"),
    [("plain; a=1", "plain; a=1"), ("替身", "%E6%9B%BF%E8%BA%AB"), ("a\r\nset-cookie: x", "a%0D%0Aset-cookie: x")],
)
async def test_what_a_header_cannot_carry_is_encoded(value: str, sent: str) -> None:
    """A line end in a value would be a header of its own: names come from requests and from configuration."""
    peer = Peer()
    exchange = await peer.exchange()
    exchange.extra_headers["x-value"] = value

    await exchange.answer(200, b"")

    assert peer.headers["x-value"] == sent


@pytest.mark.parametrize(("status", "level"), [(200, "INFO"), (404, "INFO"), (503, "WARNING")])
async def test_a_request_leaves_one_line_that_holds_no_secret(
    status: int, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What came, what went, by whom; never a key, a prompt or an answer, and no line of the client's making."""
    caplog.set_level(logging.INFO, "hanlin.http")
    peer = Peer(b"a prompt", path="/v1/x%0AINFO", headers={"authorization": "Bearer sk-secret"})
    exchange = await peer.exchange()
    account = exchange.account = Account("chat")
    account.call = call_of(plan_of(ScriptedEngine()))
    exchange.problem = EngineUnavailable("loading") if status >= 400 else None
    await exchange.answer(status, b"an answer")

    exchange.log()

    (record,) = caplog.records
    assert record.levelname == level
    assert record.message.startswith(f"POST '/v1/x%0AINFO' {status} ")
    assert exchange.id in record.message
    assert "by stand-in; small@0123456789ab" in record.message
    assert ("ModelUnavailable" in record.message) is (status >= 400)
    assert not any(secret in record.message for secret in ("sk-secret", "a prompt", "an answer", "\n"))


async def test_a_key_that_was_put_into_the_path_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Somebody took it for the name of a model, or for a part of the base URL."""
    caplog.set_level(logging.INFO, "hanlin.http")
    exchange = await Peer(method="GET", path="/v1/models/sk-0123-abcd/x").exchange()
    await exchange.answer(404, b"{}")

    exchange.log()

    (record,) = caplog.records
    assert record.message.startswith("GET '/v1/models/sk-…/x' 404 ")


@pytest.mark.parametrize("path", ["/ready", "/health"])
async def test_probes_leave_no_line_in_a_usual_log(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """They come every few seconds and say nothing new."""
    caplog.set_level(logging.INFO, "hanlin.http")
    exchange = await Peer(method="GET", path=path).exchange()
    await exchange.answer(503, b"{}")

    exchange.log()

    assert caplog.records == []
