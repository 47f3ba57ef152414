"""Keys that callers identify themselves with: how one is made, checked, hashed and hinted at. Nothing is stored here.

A key is opaque text: only the ones made here start with `sk-`.
"""

import hashlib
import hmac
import re
import secrets
import string

from hanlin.errors import StartupError
from hanlin.words import say

KEY_LIMIT_CHARACTERS = 512

_ALPHABET = string.ascii_letters + string.digits
_HINT_CHARACTERS = 4
_HINTED_FROM_CHARACTERS = 12
_MADE = re.compile(r"\b(sk|st)-[\w-]+")


def new_key() -> str:
    """Return a fresh key: `sk-` and 48 letters and digits, about 285 random bits."""
    return "sk-" + "".join(secrets.choice(_ALPHABET) for _ in range(48))


def adopted(text: str, source: str) -> str:
    """Return a key that the user brought, without the white space around it.

    `source` is where it came from (`DASHSCOPE_API_KEY`), for the message. Raises StartupError for text that could not
    travel in an `Authorization` header: empty, beyond 512 characters, or anything but printable ASCII. The message
    never holds the text.
    """
    key = text.strip()
    if not key:
        raise _refused(source, "is empty", "为空")
    if len(key) > KEY_LIMIT_CHARACTERS:
        raise _refused(
            source,
            f"has {len(key)} characters, at most {KEY_LIMIT_CHARACTERS} work",
            f"长 {len(key)} 个字符，最多 {KEY_LIMIT_CHARACTERS} 个",
        )
    if not (key.isascii() and key.isprintable()):
        raise _refused(source, "holds characters other than printable ASCII", "含有可打印 ASCII 以外的字符")
    return key


def hash_key(secret: bytes, key: str) -> str:
    """Return what is stored instead of a key: its HMAC-SHA-256 under the server's secret, 64 hex digits.

    Any text can be hashed, so that a nonsensical key from the wire is an unknown key and not a failure.
    """
    return hmac.new(secret, key.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def fingerprint(secret: bytes) -> str:
    """Return what tells a server's secret from others, 16 hex digits, and nothing of it."""
    return hmac.new(secret, b"hanlin: which secret", hashlib.sha256).hexdigest()[:16]


def hint(key: str) -> str:
    """Return the last four characters, by which people tell keys apart; none of a key too short to spare them."""
    return key[-_HINT_CHARACTERS:] if len(key) >= _HINTED_FROM_CHARACTERS else ""


def concealed(text: str) -> str:
    """Return text without the keys in it that are told by their beginning, such as one that was taken for an id."""
    return _MADE.sub(r"\1-…", text)


def _refused(source: str, why_en: str, why_zh: str) -> StartupError:
    return StartupError(
        say(
            f"{source}: cannot be taken as a key: it {why_en}. Correct it, or unset it to have a key made",
            f"{source}：不能用作密钥：{why_zh}。请更正，或取消设置以自动生成密钥",
        )
    )
