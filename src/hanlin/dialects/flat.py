"""Errors as the native surface and temporary keys have them (spec/surfaces.md §0.3): flat, with codes of their own."""

from collections.abc import Mapping

import msgspec

from hanlin.errors import FileQuotaExceeded, HanlinError, InvalidApiKey

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
    code, message = words(problem)
    return msgspec.json.encode({"code": code, "message": message, "request_id": request_id})


def words(problem: HanlinError) -> tuple[str, str]:
    """Return the code and the message of an error."""
    if isinstance(problem, InvalidApiKey):  # a header that is missing and a key that is wrong have their own words here
        said = "No API-key provided." if problem.missing else "Invalid API-key provided."
        return CODES[problem.code], f"{said} {problem.remedy}"
    if isinstance(problem, FileQuotaExceeded):
        return _quota(problem)
    return CODES.get(problem.code, problem.code or ""), problem.message


def _quota(problem: FileQuotaExceeded) -> tuple[str, str]:
    if problem.of_files:
        said = f"Out of number, <{problem.used}> of <{problem.limit}> files has been uploaded."
        return "BadRequest.TooMany", f"{said} {problem.remedy}"
    said = f"Out of space, <{problem.used}> B of <{problem.limit}> B storage space has been used."
    return "BadRequest.TooLarge", f"{said} {problem.remedy}"
