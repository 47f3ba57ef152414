"""Temporary keys: texts that stand for a key for some minutes, and hold all that there is to know about them.

Nothing is stored, so that every process knows them and nothing grows; whoever has the server's secret can make one, and
nobody else. Pure: the time is an argument.

    st- base64url( version 1 · expiry 5 · nonce 8 · the key's id, UTF-8 · HMAC-SHA-256 of all before it 32 )
"""

import base64
import binascii
import hashlib
import hmac
import secrets

import msgspec

PREFIX = "st-"
MOST_S = 1800
USUAL_S = 60

_VERSION = b"\x01"
_EXPIRY_BYTES = 5
_NONCE_BYTES = 8
_HEAD_BYTES = len(_VERSION) + _EXPIRY_BYTES + _NONCE_BYTES
_MAC_BYTES = hashlib.sha256().digest_size
_MOST_CHARACTERS = 512


class Temporary(msgspec.Struct, frozen=True):
    """What a temporary key says: whose it is, and until when, in seconds since 1970."""

    key_id: str
    expires_unix_s: int

    def works(self, now_unix_s: float) -> bool:
        return now_unix_s < self.expires_unix_s


def sealing_key(secret: bytes) -> bytes:
    """Return what temporary keys are sealed with: not what keys are hashed with, so that no hash is a seal."""
    return hmac.digest(secret, b"hanlin: temporary keys", "sha256")


def temporary_key(sealed_with: bytes, key_id: str, expires_unix_s: int) -> str:
    """Return the text of a temporary key."""
    expiry = expires_unix_s.to_bytes(_EXPIRY_BYTES, "big")
    content = _VERSION + expiry + secrets.token_bytes(_NONCE_BYTES) + key_id.encode()
    seal = hmac.digest(sealed_with, content, "sha256")
    return PREFIX + _word(content + seal)


def read(sealed_with: bytes, text: str) -> Temporary | None:
    """Return what a temporary key says, expired or not; None for any text that was not made under this secret."""
    if not text.startswith(PREFIX) or len(text) > _MOST_CHARACTERS:
        return None
    whole = _bytes(text[len(PREFIX) :])
    content, seal = whole[:-_MAC_BYTES], whole[-_MAC_BYTES:]
    if len(content) <= _HEAD_BYTES or not hmac.compare_digest(seal, hmac.digest(sealed_with, content, "sha256")):
        return None
    if content[:1] != _VERSION:
        return None
    return Temporary(content[_HEAD_BYTES:].decode(), int.from_bytes(content[1 : 1 + _EXPIRY_BYTES], "big"))


def _word(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def _bytes(word: str) -> bytes:
    """Return what a word stands for; nothing for one that would not have been written so."""
    try:
        content = base64.urlsafe_b64decode(word + "=" * (-len(word) % 4))
    except (binascii.Error, ValueError):
        return b""
    return content if _word(content) == word else b""
