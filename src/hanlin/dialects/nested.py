"""Errors as the admin API has them: OpenAI's envelope, and the id that finds the call in the log."""

import msgspec

from hanlin.errors import HanlinError


def error(problem: HanlinError, request_id: str) -> bytes:
    """Return the body of an error."""
    told = {"message": problem.message, "type": problem.type, "param": problem.param, "code": problem.code}
    return msgspec.json.encode({"error": told, "request_id": request_id})
