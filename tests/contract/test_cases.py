"""Every case of the contract (`tests/contract/cases/*.toml`), streamed and not, in front of fake engines.

One service for each profile of a deployment, and for each group of settings that cases name.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hanlin.testing import FakeEngine
from hanlin.testing.rules import Style
from tests import answers, cases
from tests.cases import Case, Json, Mode, Profile
from tests.service import KEY, Service, in_front_of

CASES = cases.cases()
ROWS = [(case, profile, mode) for case in CASES for profile in case.profiles for mode in case.ways]
CONTEXT_TOKENS = 4096
STYLES: tuple[Style, ...] = ("llama", "openai")

Kind = tuple[Profile, tuple[tuple[str, str], ...]]
"""What a service is for: the profile of its deployment, and its settings."""


@dataclass
class Place:
    """A service with one fake engine behind it. `wholes` are the unstreamed answers so far."""

    engine: FakeEngine
    http: httpx2.Client
    wholes: dict[tuple[str, str], Json] = field(default_factory=dict)

    def ask(self, case: Case, mode: Mode) -> httpx2.Response:
        self.engine.rules(case.engine)
        if case.sent:
            self.engine.forget_requests()
        content = case.body if case.body is not None else json.dumps(case.asked(mode))
        headers = {"authorization": f"Bearer {case.key or KEY}"}
        return self.http.request(case.method, cases.PATHS[case.path], content=content, headers=headers)


Places = Callable[[Profile, Case], Place]


@pytest.fixture(scope="module")
def place_of(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    """Start what the cases of this run need, side by side: most of a start is reading Python."""
    with ExitStack() as running:
        engines = {
            style: running.enter_context(FakeEngine(style=style, template="qwen3", context_tokens=CONTEXT_TOKENS))
            for style in STYLES
        }
        services: dict[Kind, Service] = {}
        for profile, case in needed(request):
            if (key := kind_of(profile, case)) not in services:
                services[key] = service_of(engines, profile, case, tmp_path_factory.mktemp("home"))
                running.callback(services[key].close)
                services[key].launch()
        places: dict[Kind, Place] = {}
        for key, service in services.items():
            service.wait_ready()
            http = running.enter_context(httpx2.Client(base_url=service.url, timeout=30))
            places[key] = Place(engines[style_of(key[0])], http)
        yield lambda profile, case: places[kind_of(profile, case)]


def needed(request: pytest.FixtureRequest) -> Iterator[tuple[Profile, Case]]:
    """Return what the tests of this run are about, which may be a few of the file."""
    for item in request.session.items:
        if item.path == request.path and isinstance(item, pytest.Function):
            params: dict[str, Any] = item.callspec.params
            yield params["profile"], params["case"]


def kind_of(profile: Profile, case: Case) -> Kind:
    return profile, tuple(sorted(case.settings.items()))


def style_of(profile: Profile) -> Style:
    return "llama" if profile == "llama" else "openai"


def service_of(engines: Mapping[Style, FakeEngine], profile: Profile, case: Case, home: Path) -> Service:
    engine = engines[style_of(profile)]
    # llama.cpp's own paths have no prefix.
    row: dict[str, object] = {"profile": profile, "url": engine.url if profile == "llama" else engine.base_url}
    if profile == "modelstudio":
        row["serves"] = ["*", "text-embedding-*"]
        row["model"] = "theirs"  # of its own models it knows the defaults, and is sent none
    config = in_front_of(engine, **row)
    environment = {f"HANLIN_{name.upper()}": value for name, value in case.settings.items()}
    return Service(home, config=f"{config}fit_vectors = true\n", environment=environment)


@pytest.mark.parametrize(
    ("case", "profile", "mode"),
    [pytest.param(*row, id=f"{row[0].topic}: {row[0].name} [{row[1]}, {row[2]}]") for row in ROWS],
)
def test_the_contract_holds(place_of: Places, case: Case, profile: Profile, mode: Mode) -> None:
    """What a program was written against must come back, whatever answers and however it is asked for."""
    place = place_of(profile, case)

    response = place.ask(case, mode)

    if case.error is not None:
        cases.check_refusal(response, case)
        return
    assert response.status_code == 200, response.text[:700]
    answer = cases.answer_of(response, case, mode)
    cases.check(answer, case.expect, case.asked(mode))
    cases.check(dict(response.headers), case.headers, case.asked(mode))
    check_sent(place.engine, case, profile, mode)
    if mode == "whole":
        place.wholes[case.topic, case.name] = answer
    elif "whole" in case.ways and not case.differs:
        assert answers.said(answer) == answers.said(whole_of(place, case))


def check_sent(engine: FakeEngine, case: Case, profile: Profile, mode: Mode) -> None:
    wanted = {**case.sent.get("all", {}), **case.sent.get(profile, {})}
    if wanted:
        cases.check(engine.requests()[-1].body, wanted, case.asked(mode))


def whole_of(place: Place, case: Case) -> Json:
    if (case.topic, case.name) not in place.wholes:
        place.wholes[case.topic, case.name] = cases.answer_of(place.ask(case, "whole"), case, "whole")
    return place.wholes[case.topic, case.name]
