"""Keys, calls with them, and the rows that they leave, for tests of a running service."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from openai import APIStatusError

from hanlin.home import Home, server_secret
from hanlin.keys import hash_key, hint, new_key
from hanlin.store.database import Store, open_store
from hanlin.store.rows import KeyRow, LedgerRow
from hanlin.testing import wait_until
from tests.service import KEY, Service


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


def rows_of(service: Service, key: KeyRow, count: int) -> list[LedgerRow]:
    """Wait for so many rows of a key, oldest first."""
    found: list[LedgerRow] = []

    def there() -> bool:
        page = in_store(service, lambda store: store.ledger.page(limit=1000))
        found[:] = [row for row in reversed(page.rows) if row.key_id == key.id]
        return len(found) >= count

    wait_until(there, f"{count} rows of {key.id}")
    return found
