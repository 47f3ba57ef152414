"""`POST /api/v1/tokens`: a key for some minutes, made with one that lasts (spec/surfaces.md §8.10)."""

from urllib.parse import parse_qs

import msgspec

from hanlin.errors import AccessDenied, InvalidRequest
from hanlin.http.exchange import Exchange
from hanlin.service import temporary
from hanlin.service.accounting import permit_from
from hanlin.service.studio import Studio
from hanlin.words import say

PATH = "/api/v1/tokens"

_LASTING = "expire_in_seconds"


async def answer(studio: Studio, exchange: Exchange) -> None:
    """Answer with a temporary key. Raises InvalidApiKey, AccessDenied and InvalidRequest."""
    exchange.extra_headers["cache-control"] = "no-store"
    brought = exchange.bearer()
    key = await studio.keyring.authenticate(brought)
    permit_from(key, exchange.peer())
    if studio.keyring.is_temporary(brought):
        raise AccessDenied(
            say("A temporary key makes no others: use the key that it was made with", "临时密钥不能再创建临时密钥")
        )
    text, expires_unix_s = studio.keyring.make_temporary(key, _lasting_s(exchange.query))
    await exchange.answer(200, msgspec.json.encode({"token": text, "expires_at": expires_unix_s}))


def _lasting_s(query: str) -> int:
    """Return for how long a key is asked for, in seconds. Parameters of other names are the vendor's to know."""
    said = parse_qs(query, keep_blank_values=True).get(_LASTING, [str(temporary.USUAL_S)])
    text = said[0]
    if len(said) == 1 and text.isascii() and text.isdecimal() and len(text) < 9:
        lasting_s = int(text)
        if 1 <= lasting_s <= temporary.MOST_S:
            return lasting_s
    raise InvalidRequest(f"Range of {_LASTING} should be [1, {temporary.MOST_S}]", param=_LASTING)
