"""Keys, calls with them, and the rows that they leave, for tests of a running service."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from openai import APIStatusError

from hanlin.home import Home, server_secret
from hanlin.keys import hash_key, hint, new_key
from hanlin.store.database import Store, open_store
from hanlin.store.rows import Filters, KeyRow, LedgerRow
from tests.service import KEY, Service

PATIENT_S = 10.0
"""Longer than the way of a row into the database ever takes."""


def in_store(service: Service, act: Callable[[Store], Any]) -> Any:
    """Run a step on the database of a service, beside it."""

    async def run() -> Any:
        async with await open_store(Home(service.home).database) as store:
            return await act(store)

    return asyncio.run(run())


def made(service: Service, **more: Any) -> tuple[str, KeyRow]:
    """Make a key as `hanlin keys create` does, while the service runs."""
    key = new_key()
    hashed = hash_key(server_secret(Home(service.home)), key)
    row: KeyRow = in_store(service, lambda store: store.keys.add("test", hashed, hint(key), **more))
    return key, row


def ask(service: Service, key: str = KEY, **more: Any) -> Any:
    """Ask a question with the SDK; return the answer, or all of its chunks."""
    question: list[Any] = [{"role": "user", "content": "你是谁？"}]
    with service.client(api_key=key) as client:
        answer = client.chat.completions.create(**{"model": "qwen-plus", "messages": question, **more})
        return list(answer) if more.get("stream") else answer


def refused(service: Service, key: str, **more: Any) -> APIStatusError:
    """Return the error of a question that is refused."""
    with pytest.raises(APIStatusError) as refusal:
        ask(service, key, **more)
    return refusal.value


def row_of(service: Service, call_id: str) -> LedgerRow:
    """Wait for a call's row."""
    row: LedgerRow = once_stored(service, lambda store: store.ledger.find(call_id), f"the row of {call_id}")
    return row


def rows_of(service: Service, key: KeyRow, count: int) -> list[LedgerRow]:
    """Wait for so many rows of a key, oldest first."""

    async def found(store: Store) -> list[LedgerRow]:
        page = await store.ledger.page(limit=1000, filters=Filters(key_id=key.id))
        return list(reversed(page.rows)) if len(page.rows) >= count else []

    rows: list[LedgerRow] = once_stored(service, found, f"{count} rows of {key.id}")
    return rows


def once_stored(service: Service, look: Callable[[Store], Awaitable[Any]], what: str) -> Any:
    """Look into the database of a service until something true is found, and return that. Fails with `what`."""

    async def until_found(store: Store) -> Any:
        deadline = time.monotonic() + PATIENT_S
        while not (found := await look(store)):
            assert time.monotonic() < deadline, f"waited {PATIENT_S:g} s in vain: {what}"
            await asyncio.sleep(0.02)
        return found

    return in_store(service, until_found)
