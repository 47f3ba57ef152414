"""The cases of the contract on the embedded engine: what a half-billion-parameter model says has the same form.

Of a case that says what a fake engine writes, the words are not looked at here, nor of one that needs a mind. One case
in ten runs, and at least one of every topic, streamed or not in turns; `TEST_CASES=all` runs them all, both ways.
"""

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import httpx2
import msgspec
import pytest

from tests import cases
from tests.cases import Case, Json, Mode
from tests.service import KEY, Service

pytestmark = pytest.mark.embedded

PATIENCE_S = 300.0
LONGEST = 48
"""Tokens of an answer that its case does not limit: enough for every form, and a second or two of two cores."""

_SHARE = 10
# What a model decides by what it says.
_SAID = (
    "choices.0.message",
    "choices.1.message",
    "choices.2",
    "choices.3",
    "choices.0.finish_reason",
    "choices.0.text",
)
_COUNTED = ("usage", "choices.0.logprobs", "choices.1.logprobs", "choices.1.finish_reason")


def chosen() -> list[tuple[Case, Mode]]:
    """Return the cases of this run, each with the mode that it is asked in."""
    here = [case for case in cases.cases() if runs_here(case)]
    if os.environ.get("TEST_CASES") == "all":
        return [(case, mode) for case in here for mode in case.ways]
    found: list[tuple[Case, Mode]] = []
    for _, some in groupby(here, lambda case: case.topic):
        ranked = sorted(some, key=lambda case: zlib.crc32(case.name.encode()))[::_SHARE]
        found += [(case, case.ways[number % len(case.ways)]) for number, case in enumerate(ranked)]
    return found


def runs_here(case: Case) -> bool:
    """Whether the case is about an engine like the embedded one, or about what no engine hears of."""
    # The weights that make vectors are not a part of this service.
    if case.embedded or case.settings or case.path == "embeddings":
        return False
    if case.error is not None:
        return "openai" not in case.profiles
    return "llama" in case.profiles or case.path == "completions"


@pytest.fixture(scope="module")
def http(embedded_service: Service) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=embedded_service.url, timeout=PATIENCE_S) as http:
        yield http


@pytest.mark.parametrize(
    ("case", "mode"),
    [pytest.param(case, mode, id=f"{case.topic}: {case.name} [{mode}]") for case, mode in chosen()],
)
def test_the_contract_holds_on_the_embedded_engine(http: httpx2.Client, case: Case, mode: Mode) -> None:
    """What was tried on fakes must not be a property of fakes."""
    case = limited(case)
    content = case.body if case.body is not None else json.dumps(case.asked(mode))
    headers = {"authorization": f"Bearer {case.key or KEY}"}

    response = http.request(case.method, cases.PATHS[case.path], content=content, headers=headers)

    if case.error is not None:
        cases.check_refusal(response, case)
        return
    assert response.status_code == 200, response.text[:700]
    answer = cases.answer_of(response, case, mode)
    cases.check(answer, loosened(case), case.asked(mode))


def limited(case: Case) -> Case:
    """Return the case with an end to what a model may say, where that changes nothing else of it."""
    limit = "max_tokens" if case.path == "completions" else "max_completion_tokens"
    if (
        case.error is not None
        or case.body is not None
        or {limit, "response_format", "tool_choice"} & case.request.keys()
    ):
        return case
    nulls = tuple(name for name in case.nulls if name != limit)
    return msgspec.structs.replace(case, request={**case.request, limit: LONGEST}, nulls=nulls)


def loosened(case: Case) -> Json:
    """Return what is still expected of a model whose words nobody has written."""
    if case.needs:
        return {}
    kept: Json = {}
    for place, value in cases.placed(case.expect):
        if (form := _form(place, value)) is not None:
            kept[place] = form
    return kept


def _form(place: str, value: Any) -> Any:
    """Return what of a value does not depend on words, None where nothing does."""
    if place.startswith(_COUNTED):
        return None
    if not place.startswith(_SAID):
        return value
    if isinstance(value, Mapping) and "$fits" in value:
        return value
    if place.endswith("tool_calls") and value == "absent":
        return value
    if place.endswith("reasoning_content"):
        # It may have thought of nothing.
        return "absent" if value == "absent" else None
    return "<string>" if place.endswith(("content", "arguments", "name", "text")) else None
