"""Errors as the compatible surface writes them (spec/chat.md §12): `id` and `request_id` stand beside `error`."""

import msgspec

from hanlin.errors import HanlinError


def error(problem: HanlinError, request_id: str) -> bytes:
    """Return the body of an error."""
    return msgspec.json.encode(
        {
            "error": {
                "message": problem.message,
                "type": problem.type,
                "param": problem.param,
                "code": problem.code,
            },
            "id": f"chatcmpl-{request_id}",
            "request_id": request_id,
        }
    )


def error_frame(problem: HanlinError, request_id: str) -> bytes:
    """Return an error as the last frame of a stream that has begun."""
    return b"data: " + error(problem, request_id) + b"\n\n"
