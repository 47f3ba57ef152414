"""Where a service keeps what it may share with others: its database, what keys are hashed with, its limits."""

import logging
from pathlib import Path

from hanlin.errors import StartupError
from hanlin.home import SECRET_BYTES, Home, server_secret
from hanlin.keys import fingerprint
from hanlin.metering.limits import MINUTE_S, Pace
from hanlin.metering.memory import MemoryStore
from hanlin.metering.outage import SharedStore
from hanlin.metering.redis import RedisStore
from hanlin.metering.reserving import LimitStore
from hanlin.settings import Settings
from hanlin.store.database import Store, open_store
from hanlin.words import say

log = logging.getLogger("hanlin.service")


def database_of(home: Home, settings: Settings) -> Path | str:
    """Return what `open_store` takes."""
    return settings.database.reveal() or home.database


def secret_of(home: Home, settings: Settings) -> bytes:
    """Return what keys are hashed with: the setting, or what the prepared home has. Raises StartupError."""
    text = settings.secret.reveal().strip()
    if not text:
        return server_secret(home)
    try:
        secret = bytes.fromhex(text)
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise StartupError(
            say(
                f"secret (HANLIN_SECRET): {2 * SECRET_BYTES} hex digits are wanted, as `openssl rand -hex "
                f"{SECRET_BYTES}` prints them. Take those of a service that shares the database: "
                "`od -An -tx1 -v HOME/secret | tr -d ' \\n'` prints them",
                f"secret（HANLIN_SECRET）：应为 {2 * SECRET_BYTES} 位十六进制数，可用 "
                f"`openssl rand -hex {SECRET_BYTES}` 生成。若与其他服务共用数据库，请取其值："
                "`od -An -tx1 -v 主目录/secret | tr -d ' \\n'`",
            )
        )
    return secret


async def open_database(home: Home, settings: Settings, secret: bytes) -> Store:
    """Open the database, whose keys were hashed with the secret. Raises StartupError where they were not."""
    store = await open_store(database_of(home, settings))
    try:
        await store.secret.agree(fingerprint(secret))
    except BaseException:
        await store.close()
        raise
    return store


def pace_of(settings: Settings) -> Pace:
    """Return how much of a minute may be used at once."""
    return Pace(1.0 if settings.limit_pace == "second" else MINUTE_S, settings.limit_burst or None)


async def open_limits(settings: Settings, secret: bytes) -> LimitStore:
    """Return where limits are kept. A Redis that is away is told of, and no reason not to start. Raises StartupError.

    Whoever shares the secret, and so the keys, shares the limits; others may use the same Redis.
    """
    pace, url = pace_of(settings), settings.redis.reveal()
    shares = settings.redis_services * settings.workers  # each worker has a store of its own
    if not url:
        return MemoryStore(pace)
    redis = RedisStore(url, pace, prefix=f"{{hanlin:{fingerprint(secret)[:8]}}}")
    if not await redis.greet():
        log.warning(
            say(
                "limits: until Redis answers, calls that have limits are refused (redis_policy = closed)",
                "限额：在 Redis 恢复之前，受限的调用将被拒绝（redis_policy = closed）",
            )
            if settings.redis_policy == "closed"
            else say(
                f"limits: until Redis answers, each limit is divided by {shares} (redis_policy = "
                "open, redis_services × workers)",
                f"限额：在 Redis 恢复之前，每项限额按 {shares} 均分（redis_policy = open，redis_services × workers）",
            )
        )
    return SharedStore(redis, settings.redis_policy, shares)
