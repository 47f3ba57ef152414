"""What the ledger, the limits and the keys are about, as values: nothing here knows a table or a wire.

Money is counted in nanos: 10⁻⁹ of the currency's unit, as an integer. A list price of one yuan per million tokens is
1,000 nanos a token, so that a bill is exact to the token.
"""

from datetime import date, datetime
from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar, get_args

import msgspec

from hanlin.types import Usage

NANOS = 1_000_000_000
"""Nanos in one unit of a currency."""

DEFAULT_WORKSPACE = "default"
"""The id of the workspace that every database has, and that keys without another belong to."""

Period = Literal["day", "month", "total"]
"""After which a budget begins anew, at 0:00 UTC; `total` never does."""

Role = Literal["", "viewer", "admin", "owner"]
"""What a key may do in the admin API: nothing, look, change, also make and change keys that may do so."""

ROLES: tuple[Role, ...] = get_args(Role)
"""Each may what those before it may."""

FileStatus = Literal["processing", "processed", "error"]

Dimension = Literal["day", "key_id", "workspace_id", "model", "deployment", "surface"]
"""What totals can be told apart by; currencies always are. A day begins at 0:00 UTC."""


class Budget(msgspec.Struct, frozen=True, gc=False):
    """How much may be spent in a period."""

    nanos: int
    currency: str = "CNY"
    period: Period = "month"


class Limits(msgspec.Struct, frozen=True, gc=False):
    """What a key, a workspace or a model is held to. None means no limit; 0 lets nothing through.

    `rpm` and `tpm` are calls and tokens (prompt and completion) a minute, `concurrency` calls at once.
    """

    rpm: int | None = None
    tpm: int | None = None
    concurrency: int | None = None
    budget: Budget | None = None


UNLIMITED = Limits()


class Outcome(StrEnum):
    """How a call ended."""

    ANSWERED = "answered"
    FAILED = "failed"  # with an error, after it had been admitted
    CANCELLED = "cancelled"  # its caller left
    INTERRUPTED = "interrupted"  # the service died under it


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One call that was admitted. `id` is its request id, which no other row has; `parent_id` that of a recipe's call,
    whose own row leaves out what its inner calls used and cost. Rows with ids that grow with time are stored fastest.

    `surface` is the route's word (`chat`, `text_completion`, `embeddings`). `model` is the name asked for, `deployment`
    who answered, "" when nobody did. `usage` has its four counts only: what else is known of them stands in fields of
    the row. `cache_created` is part of the prompt, `media` counts units of media by their kind. `estimated`: the counts
    are a guess, because nobody had counted to the end. Times are milliseconds since `began_at`; None for a phase that
    was never reached.

    `cost_nanos` is what the workspace is charged, `list_cost_nanos` what the vendor's list would charge for the name;
    `price_version` names the price list that both were worked out by. `told_prompt` and `told_completion` are what the
    caller of a recipe was told in place of its usage; None where it was told what was used.

    What is as by default is left out where rows wait as text, so that no default may ever change.
    """

    id: str
    parent_id: str = ""
    began_at: datetime
    key_id: str
    workspace_id: str
    surface: str
    model: str
    deployment: str = ""
    served: str = ""
    stream: bool = False
    outcome: Outcome = Outcome.ANSWERED
    status: int = 200
    code: str = ""
    finish_reason: str = ""
    usage: Usage = Usage()
    cache_created: int = 0
    media: dict[str, int] = {}
    estimated: bool = False
    queue_ms: float | None = None
    first_token_ms: float | None = None
    total_ms: float | None = None
    price_version: str = ""
    currency: str = "CNY"
    cost_nanos: int = 0
    list_cost_nanos: int = 0
    told_prompt: int | None = None
    told_completion: int | None = None


class Filters(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which calls a question is about. "" and None leave a field open; `since` is part of the time, `until` is not."""

    key_id: str = ""
    workspace_id: str = ""
    model: str = ""
    outcome: Outcome | None = None
    since: datetime | None = None
    until: datetime | None = None


EVERYTHING = Filters()


class Mark(msgspec.Struct, frozen=True, gc=False):
    """A place in a list that is ordered by time: beside the row that it names, on the side that is still to come."""

    at: datetime
    id: str


Listed = TypeVar("Listed")


class Page(msgspec.Struct, Generic[Listed], frozen=True, gc=False):
    """Some rows of a list, and the mark that the next page begins at; None when there are no more."""

    rows: tuple[Listed, ...]
    next: Mark | None


class Total(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What calls came to. Dimensions that they were not told apart by are None.

    `calls` were made by callers; the calls that a recipe made for them are not counted again, what they used and cost
    is. `failed` are those that failed or were interrupted, `estimated` those whose counts are a guess.
    """

    day: date | None = None
    key_id: str | None = None
    workspace_id: str | None = None
    model: str | None = None
    deployment: str | None = None
    surface: str | None = None
    currency: str
    calls: int
    failed: int
    estimated: int
    usage: Usage
    cache_created: int
    cost_nanos: int
    list_cost_nanos: int


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
    """Who pays. `keeps_content`: prompts and answers of its calls are stored, which nobody's are otherwise."""

    id: str
    name: str
    created_at: datetime
    limits: Limits = Limits()
    keeps_content: bool = False


class ModelLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What each model is held to whose name is `pattern` or matches it, all callers together."""

    pattern: str
    made_at: datetime
    limits: Limits = Limits()


class Content(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a call said and was told, of a workspace that keeps that: JSON text, both.

    `prompt` is what was asked (messages, a text with its gap, or texts for vectors), `answer` a list of choices, empty
    when nothing came. What was too long ends early, and says so.
    """

    call_id: str
    began_at: datetime
    workspace_id: str
    prompt: str
    answer: str


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """A key as stored; its text is not. `hint` is the end of the text.

    `models` are patterns of names that it may call, `surfaces` the routes' words, `addresses` networks in CIDR notation
    that it may call from; empty means any. It works until `expires_at` and until `revoked_at`, None while neither is
    set. `replaces_id` is the key that it was made to replace by a rotation, `origin_id` the first of such a line of
    keys; both are "" for a key that replaces none.
    """

    id: str
    name: str
    hash: str
    hint: str
    created_at: datetime
    workspace_id: str = "default"
    role: Role = ""
    models: tuple[str, ...] = ()
    surfaces: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    limits: Limits = Limits()
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    replaces_id: str = ""
    origin_id: str = ""

    @property
    def counted_as(self) -> str:
        """The id that limits and budgets are counted under: a rotation must not begin them anew."""
        return self.origin_id or self.id

    def works(self, at: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)

    def shown(self) -> dict[str, Any]:
        """Return what people and the audit log may see, as values of JSON: everything but the hash."""
        fields: dict[str, Any] = msgspec.to_builtins(self)
        del fields["hash"]
        return fields

    def __repr__(self) -> str:
        return f"KeyRow({self.id}, {self.name!r}, …{self.hint})"


class PriceList(msgspec.Struct, frozen=True, kw_only=True):
    """A price list as it was used, as JSON text: an old row's cost can be worked out again."""

    version: str
    made_at: datetime
    text: str


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One change: by whom (a key's id, `cli`, "" for Hanlin itself), what was done, and to what.

    `before` and `after` are JSON text, "" where there was nothing.
    """

    id: int
    at: datetime
    who: str
    what: str
    subject: str
    before: str = ""
    after: str = ""


class FileRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A file that a caller uploaded, as its workspace knows it; its bytes lie elsewhere, `digest` is their SHA-256.

    `description` is the caller's; `md5` is that of the bytes, in base64, "" for files from before it was kept.

    `kind` is what it was found to be, "" until somebody looked. `status`: `processing` until it has been read, then
    `processed`, or `error` with the `reason`, a word, and its `details`, a sentence. `pages_done` of `pages_total` have
    been read so far (0: nobody knows); `pages`, `characters` and `tokens` (an estimate) are what it has, once it is
    read. Until `claimed_until` it is `claimed_by` a process that reads it, for the `attempts`-th time. From
    `deleted_at` on it is only remembered.
    """

    id: str
    workspace_id: str
    key_id: str
    purpose: str
    filename: str
    size_bytes: int
    digest: str
    created_at: datetime
    kind: str = ""
    status: FileStatus = "processed"
    reason: str = ""
    details: str = ""
    pages_done: int = 0
    pages_total: int = 0
    pages: int = 0
    characters: int = 0
    tokens: int = 0
    deleted_at: datetime | None = None
    attempts: int = 0
    claimed_by: str = ""
    claimed_until: datetime | None = None
    description: str = ""
    md5: str = ""


class FileFilters(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Which files a question is about. "" and None leave a field open; `since` is part of the time, `until` is not."""

    purpose: str = ""
    since: datetime | None = None
    until: datetime | None = None


class Quota(msgspec.Struct, frozen=True, gc=False):
    """How many files a workspace may have, and how many bytes they may have together."""

    files: int
    size_bytes: int
