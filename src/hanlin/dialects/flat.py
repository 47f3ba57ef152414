"""Errors as the native surface and temporary keys have them (spec/surfaces.md §0.3): flat, with codes of their own."""

from collections.abc import Mapping

import msgspec

from hanlin.errors import HanlinError, InvalidApiKey

CODES: Mapping[str | None, str] = {
    "invalid_api_key": "InvalidApiKey",
    "invalid_parameter_error": "InvalidParameter",
    "access_denied": "AccessDenied",
    "not_found": "NotFound",
    "internal_error": "InternalError",
    None: "InvalidParameter",
}
"""The codes that are other words on this surface; all others are the same."""


def error(problem: HanlinError, request_id: str) -> bytes:
    """Return the body of an error."""
    code = CODES.get(problem.code, problem.code)
    return msgspec.json.encode({"code": code, "message": _message(problem), "request_id": request_id})


def _message(problem: HanlinError) -> str:
    if isinstance(problem, InvalidApiKey):  # a header that is missing and a key that is wrong have their own words here
        words = "No API-key provided." if problem.missing else "Invalid API-key provided."
        return f"{words} {problem.remedy}"
    return problem.message
