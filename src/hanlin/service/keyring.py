"""Whose key a call brings: looked up once, believed for a second, and asked after again while it is in use.

A key that was revoked stops within a second as long as the database answers. While that hangs or is away, keys that
worked go on working: calls must not depend on it. A temporary key is read and not looked up; the key that it stands for
is.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from hanlin.errors import InvalidApiKey, StoreFailed
from hanlin.keys import hash_key, hint
from hanlin.service import temporary
from hanlin.store.keys import Keys
from hanlin.store.rows import KeyRow
from hanlin.words import say

log = logging.getLogger("hanlin.service")

BELIEVED_S = 1.0
RENEWED_S = 0.5
"""From this age on a key that is in use is looked up again, beside its calls; so none of them waits for that."""

ANSWER_S = 2.0
"""How long a call whose key is known, but not of late, waits for the database."""

KNOWN_KEYS = 1024
_HEADER_BYTES = 1024


_BY_ID = "id:"
"""Stands before the id of a key that a temporary one stands for, where other keys have their hash."""


class _Known:
    """A key as the database last had it, asked at `asked_at`. While that fails it is not asked before `again_at`.

    `trusted`: the look-up that is under way began while it was believed, or takes too long to be waited for.
    """

    __slots__ = ("again_at", "asked_at", "row", "trusted")

    def __init__(self, row: KeyRow, asked_at: float) -> None:
        self.row = row
        self.asked_at = asked_at
        self.again_at = 0.0
        self.trusted = False


class Keyring:
    """The keys that calls have brought of late, by their hashes or ids, and by the headers that they came in.

    `clock` is for ages, `now` the time of day.
    """

    def __init__(
        self,
        keys: Keys,
        secret: bytes,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.secret = secret
        self._sealing_key = temporary.sealing_key(secret)
        self._keys = keys
        self._clock = clock
        self._now = now
        self._known: dict[str, _Known] = {}
        self._by_header: dict[bytes, _Known] = {}
        self._asking: dict[str, asyncio.Task[KeyRow | None]] = {}

    def known(self, header: bytes) -> KeyRow | None:
        """Return the row of the key in an `Authorization` header that is believed; None for all others."""
        known = self._by_header.get(header)
        if known is None:
            return None
        now = self._clock()
        age_s = now - known.asked_at
        if age_s >= RENEWED_S:
            if age_s >= BELIEVED_S and not known.trusted:
                return known.row if now < known.again_at and known.row.works(datetime.now(UTC)) else None
            known.trusted = True
            self._ask(known.row.hash)
        return known.row

    async def authenticate(self, key: str | None, header: bytes = b"") -> KeyRow:
        """Return the row of a caller's key. Raises InvalidApiKey, which says which line is missing, and StoreFailed.

        `header` is what the key was read from, for `known`.
        """
        if not key:
            raise InvalidApiKey(
                say(
                    "No key was sent: run `export DASHSCOPE_API_KEY=…` with the key that the first start showed, "
                    "or make another with `hanlin keys create`",
                    "请求未携带密钥：请运行 `export DASHSCOPE_API_KEY=…`（首次启动时显示的密钥），"
                    "或用 `hanlin keys create` 新建一个",
                ),
                missing=True,
            )
        if key.startswith(temporary.PREFIX) and (stands := temporary.read(self._sealing_key, key)) is not None:
            return await self._stood_for(stands)
        hashed = hash_key(self.secret, key)
        row = await self._find(hashed)
        if row is None:
            sent = f"…{hint(key)}" if hint(key) else say("The key that was sent", "所发送的密钥")
            raise InvalidApiKey(
                say(
                    f"{sent} is not a key of this service: run `export DASHSCOPE_API_KEY=…` with the key that "
                    "the first start showed, or make another with `hanlin keys create`",
                    f"{sent} 不是本服务的密钥：请运行 `export DASHSCOPE_API_KEY=…`（首次启动时显示的密钥），"
                    "或用 `hanlin keys create` 新建一个",
                )
            )
        if 0 < len(header) <= _HEADER_BYTES and (known := self._known.get(hashed)) is not None:
            if len(self._by_header) >= KNOWN_KEYS:
                self._by_header.clear()
            self._by_header[header] = known
        return row

    async def _stood_for(self, stands: temporary.Temporary) -> KeyRow:
        """Return the row of the key that a temporary one stands for, without its role."""
        row = await self._find(_BY_ID + stands.key_id) if stands.works(self._now()) else None
        if row is None:
            raise InvalidApiKey(
                say(
                    "This temporary key has expired, or the key that it was made with no longer works: make another "
                    "one with POST /api/v1/tokens",
                    "该临时密钥已过期，或其所属密钥已失效：请通过 POST /api/v1/tokens 重新获取",
                )
            )
        # Temporary keys are handed to browsers and phones, which nobody administers from.
        return msgspec.structs.replace(row, role="") if row.role else row

    def is_temporary(self, key: str | None) -> bool:
        """Say whether a key is a temporary one that was made here."""
        return key is not None and temporary.read(self._sealing_key, key) is not None

    def make_temporary(self, row: KeyRow, lasting_s: int) -> tuple[str, int]:
        """Return a key that stands for another one, and when it ends, in seconds since 1970: with that one at last."""
        expires_unix_s = int(self._now()) + lasting_s
        if row.expires_at is not None:
            expires_unix_s = min(expires_unix_s, int(row.expires_at.timestamp()))
        return temporary.temporary_key(self._sealing_key, row.id, expires_unix_s), expires_unix_s

    async def _find(self, hashed: str) -> KeyRow | None:
        known = self._known.get(hashed)
        if known is None:
            return await asyncio.shield(self._ask(hashed))
        now = self._clock()
        if now - known.asked_at >= BELIEVED_S and now >= known.again_at:
            try:
                async with asyncio.timeout(ANSWER_S):
                    return await asyncio.shield(self._ask(hashed))
            except (TimeoutError, StoreFailed):
                known.trusted = hashed in self._asking
        return known.row if known.row.works(datetime.now(UTC)) else None

    def _ask(self, hashed: str) -> "asyncio.Task[KeyRow | None]":
        """Return the one look-up of this key that is under way."""
        task = self._asking.get(hashed)
        if task is None:
            task = self._asking[hashed] = asyncio.get_running_loop().create_task(self._look_up(hashed))
            task.add_done_callback(_seen)
        return task

    async def _look_up(self, hashed: str) -> KeyRow | None:
        asked_at = self._clock()
        try:
            row = await self._asked_for(hashed)
        except StoreFailed:
            if (known := self._known.get(hashed)) is not None:
                self._goes_on(known)
            raise
        finally:
            del self._asking[hashed]
            known = self._known.get(hashed)
            if known is not None:
                known.trusted = False
        if row is None:  # an unknown one is not remembered: it may be made at any moment
            if known is not None:
                self._forget(hashed, known)
        elif known is not None:
            known.row, known.asked_at, known.again_at = row, asked_at, 0.0
        else:
            if len(self._known) >= KNOWN_KEYS:
                self._known.clear()
                self._by_header.clear()
            self._known[hashed] = _Known(row, asked_at)
        return row

    def _goes_on(self, known: _Known) -> None:
        """Believe a key for a while longer. A database that refuses at once would be asked by each of its calls."""
        if not known.again_at:
            log.warning("the database does not answer: key %s goes on as it was last known", known.row.id)
        known.again_at = self._clock() + BELIEVED_S

    async def _asked_for(self, hashed: str) -> KeyRow | None:
        if hashed.startswith(_BY_ID):
            return await self._keys.find_by_id(hashed.removeprefix(_BY_ID))
        return await self._keys.find(hashed)

    def _forget(self, hashed: str, known: _Known) -> None:
        del self._known[hashed]
        for header in [header for header, one in self._by_header.items() if one is known]:
            del self._by_header[header]

    async def close(self) -> None:
        """End the look-ups that are under way."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _seen(task: "asyncio.Task[KeyRow | None]") -> None:
    """Take a failure for seen: whoever waited was told, and a renewal is tried again."""
    if not task.cancelled():
        task.exception()
