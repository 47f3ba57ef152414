"""What administrators ask for and are told, as values: the bodies, parameters and answers of the admin API, and what
the command line passes on. Their bounds and descriptions stand here once; the OpenAPI description is made of them.
"""

from datetime import date, datetime
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import UNSET, Meta, UnsetType

from hanlin.catalogue.models import PriceTier
from hanlin.store.rows import DEFAULT_WORKSPACE, Outcome, Period, Role
from hanlin.types import Surface

MOST = 2**63 - 1
"""The most that databases count to."""

MOST_ROWS = 1000
"""Rows of a page."""

MOST_TOTALS = 10_000
"""Rows of an answer about usage, which has no pages."""

Word = Literal["day", "key", "workspace", "model", "deployment", "surface"]
"""What usage can be told apart by, as people say it."""

WORDS: tuple[Word, ...] = get_args(Word)

State = Literal["works", "expired", "revoked"]

# Databases take no zero bytes.
_WRITABLE = r"^[^\x00]*$"

Text = Annotated[str, Meta(max_length=200, pattern=_WRITABLE)]
Count = Annotated[int, Meta(ge=0, le=MOST)]
Nanos = Annotated[int, Meta(ge=0, le=MOST)]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$")]
Moment = Annotated[datetime, Meta(tz=True)]
Patterns = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=200, pattern=_WRITABLE)], ...], Meta(max_length=100)
]
Surfaces = Annotated[tuple[Surface, ...], Meta(max_length=100)]
Addresses = Annotated[tuple[Annotated[str, Meta(max_length=100)], ...], Meta(max_length=100)]


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What came from outside: a field that nobody knows is refused with its name."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What goes out."""


# Limits


class BudgetTerms(Asked, frozen=True, kw_only=True):
    """How much may be spent in a period."""

    nanos: Annotated[
        Nanos, Meta(description="The amount in billionths of the currency's unit: 10 CNY are 10000000000.")
    ]
    currency: Annotated[Currency, Meta(description="The currency's three letters.")] = "CNY"
    period: Annotated[Period, Meta(description="After which it begins anew, at 0:00 UTC; `total` never does.")] = (
        "month"
    )


class LimitTerms(Asked, frozen=True, kw_only=True):
    """What a key or a workspace is held to. null means no limit; 0 lets nothing through."""

    rpm: Annotated[Count | None, Meta(description="Calls a minute.")] = None
    tpm: Annotated[Count | None, Meta(description="Tokens a minute, prompt and completion.")] = None
    concurrency: Annotated[Count | None, Meta(description="Calls at once.")] = None
    budget: Annotated[BudgetTerms | None, Meta(description="Money.")] = None


class BudgetChange(Asked, frozen=True, kw_only=True):
    """A change of a budget: what is left out stays. What was spent of it stays spent."""

    nanos: Annotated[Nanos | UnsetType, Meta(description="The amount in billionths of the currency's unit.")] = UNSET
    currency: Annotated[Currency | UnsetType, Meta(description="The currency's three letters.")] = UNSET
    period: Annotated[Period | UnsetType, Meta(description="After which it begins anew, at 0:00 UTC.")] = UNSET


class LimitsChange(Asked, frozen=True, kw_only=True):
    """A change of limits: what is left out stays, null takes a limit away."""

    rpm: Annotated[Count | UnsetType | None, Meta(description="Calls a minute.")] = UNSET
    tpm: Annotated[Count | UnsetType | None, Meta(description="Tokens a minute.")] = UNSET
    concurrency: Annotated[Count | UnsetType | None, Meta(description="Calls at once.")] = UNSET
    budget: Annotated[BudgetChange | UnsetType | None, Meta(description="Money.")] = UNSET


# Keys

PageSize = Annotated[int, Meta(ge=1, le=MOST_ROWS, description="Rows of a page.")]
After = Annotated[str, Meta(max_length=400, description="The `next` of the page before; nothing for the first one.")]
Next = Annotated[str | None, Meta(description="What `after` takes for the next page; null when this is the last one.")]


class KeysAsked(Asked, frozen=True, kw_only=True):
    """Which keys, oldest first."""

    workspace: Annotated[Text, Meta(description="Only keys of this workspace, by its id or name.")] = ""
    limit: PageSize = 100
    after: After = ""


class NewKey(Asked, frozen=True, kw_only=True):
    """A key that is to be made, and what it may do. Whatever is left out does not narrow it."""

    name: Annotated[Text, Meta(description="What it is for, to tell keys apart.")] = ""
    workspace: Annotated[Text, Meta(description="Who pays: a workspace's id or name.")] = DEFAULT_WORKSPACE
    role: Annotated[Role, Meta(description="What it may do in the admin API; empty: nothing.")] = ""
    models: Annotated[
        Patterns, Meta(description="Patterns of names that it may call, such as `qwen3-*`; none: any.")
    ] = ()
    surfaces: Annotated[Surfaces, Meta(description="The surfaces that it may call; none: any.")] = ()
    addresses: Annotated[Addresses, Meta(description="Addresses and networks that it may call from; none: any.")] = ()
    limits: Annotated[LimitTerms, Meta(description="What it is held to.")] = LimitTerms()
    expires_at: Annotated[Moment | None, Meta(description="When it stops working; null: never.")] = None


class KeyChange(Asked, frozen=True, kw_only=True):
    """A change of a key: what is left out stays as it is."""

    name: Annotated[Text | UnsetType, Meta(description="What it is for.")] = UNSET
    workspace: Annotated[Text | UnsetType, Meta(description="Who pays: a workspace's id or name.")] = UNSET
    role: Annotated[Role | UnsetType, Meta(description="What it may do in the admin API; empty: nothing.")] = UNSET
    models: Annotated[Patterns | UnsetType, Meta(description="Patterns of names that it may call; none: any.")] = UNSET
    surfaces: Annotated[Surfaces | UnsetType, Meta(description="The surfaces that it may call; none: any.")] = UNSET
    addresses: Annotated[
        Addresses | UnsetType, Meta(description="Addresses and networks that it may call from; none: any.")
    ] = UNSET
    limits: Annotated[LimitsChange | UnsetType, Meta(description="What it is held to.")] = UNSET
    expires_at: Annotated[Moment | UnsetType | None, Meta(description="When it stops working; null: never.")] = UNSET


class Rotation(Asked, frozen=True, kw_only=True):
    """How a key is replaced."""

    overlap_s: Annotated[
        int, Meta(ge=0, le=366 * 86_400, description="How long the key that is replaced works yet, in seconds.")
    ] = 86_400


class KeyView(Told, frozen=True, kw_only=True):
    """A key, without its text and its hash."""

    id: Annotated[str, Meta(description="Its id.")]
    name: Annotated[str, Meta(description="What it is for.")]
    hint: Annotated[str, Meta(description="The last characters of its text; empty for one too short to spare them.")]
    created_at: Annotated[datetime, Meta(description="When it was made.")]
    workspace_id: Annotated[str, Meta(description="Who pays.")]
    role: Annotated[Role, Meta(description="What it may do in the admin API.")]
    models: Annotated[tuple[str, ...], Meta(description="Patterns of names that it may call; none: any.")]
    surfaces: Annotated[tuple[str, ...], Meta(description="The surfaces that it may call; none: any.")]
    addresses: Annotated[tuple[str, ...], Meta(description="Networks that it may call from; none: any.")]
    limits: Annotated[LimitTerms, Meta(description="What it is held to.")]
    expires_at: Annotated[datetime | None, Meta(description="When it stops working; null: never.")]
    revoked_at: Annotated[datetime | None, Meta(description="When it was stopped for good; null: it was not.")]
    replaces_id: Annotated[str, Meta(description="The key that it was made to replace; empty: none.")]
    origin_id: Annotated[str, Meta(description="The first key of its line of rotations; empty: itself.")]
    state: Annotated[State, Meta(description="Whether it works.")]


class MadeKey(KeyView, frozen=True, kw_only=True):
    """A key that was just made."""

    key: Annotated[str, Meta(description="Its text, shown this once.")]


class RotatedKey(MadeKey, frozen=True, kw_only=True):
    """A key that was just made to replace another one."""

    replaced: Annotated[KeyView, Meta(description="The key that it replaces.")]


class KeyPage(Told, frozen=True, kw_only=True):
    """Some keys, oldest first."""

    data: Annotated[tuple[KeyView, ...], Meta(description="The keys.")]
    next: Next


# Workspaces


class WorkspacesAsked(Asked, frozen=True, kw_only=True):
    """Which workspaces, oldest first."""

    limit: PageSize = 100
    after: After = ""


WorkspaceName = Annotated[str, Meta(min_length=1, max_length=200, pattern=_WRITABLE)]


class NewWorkspace(Asked, frozen=True, kw_only=True):
    """A workspace that is to be made."""

    name: Annotated[WorkspaceName, Meta(description="What people call it; no two have the same name.")]
    limits: Annotated[LimitTerms, Meta(description="What all of its keys are held to together.")] = LimitTerms()
    keeps_content: Annotated[bool, Meta(description="Whether prompts and answers of its calls are stored.")] = False


class WorkspaceChange(Asked, frozen=True, kw_only=True):
    """A change of a workspace: what is left out stays as it is."""

    name: Annotated[WorkspaceName | UnsetType, Meta(description="What people call it.")] = UNSET
    limits: Annotated[LimitsChange | UnsetType, Meta(description="What all of its keys are held to together.")] = UNSET
    keeps_content: Annotated[
        bool | UnsetType, Meta(description="Whether prompts and answers of its calls are stored.")
    ] = UNSET


class WorkspaceView(Told, frozen=True, kw_only=True):
    """Who pays."""

    id: Annotated[str, Meta(description="Its id.")]
    name: Annotated[str, Meta(description="What people call it.")]
    created_at: Annotated[datetime, Meta(description="When it was made.")]
    limits: Annotated[LimitTerms, Meta(description="What all of its keys are held to together.")]
    keeps_content: Annotated[bool, Meta(description="Whether prompts and answers of its calls are stored.")]


class WorkspacePage(Told, frozen=True, kw_only=True):
    """Some workspaces, oldest first."""

    data: Annotated[tuple[WorkspaceView, ...], Meta(description="The workspaces.")]
    next: Next


# Usage


class CallsFilter(Asked, frozen=True, kw_only=True):
    """Which calls a question is about. What is left out leaves a field open."""

    since: Annotated[Moment | None, Meta(description="Calls that began then or later.")] = None
    until: Annotated[Moment | None, Meta(description="Calls that began before then.")] = None
    key: Annotated[Text, Meta(description="Calls of this key, by its id.")] = ""
    workspace: Annotated[Text, Meta(description="Calls of this workspace, by its id or name.")] = ""
    model: Annotated[Text, Meta(description="Calls of this name.")] = ""
    outcome: Annotated[Outcome | None, Meta(description="Calls that ended so.")] = None


class UsageAsked(CallsFilter, frozen=True, kw_only=True):
    """What is to be added up, and what it is told apart by."""

    by: Annotated[
        tuple[Word, ...], Meta(max_length=len(WORDS), description="What it is told apart by; can be repeated.")
    ] = ("model",)


class CallsAsked(CallsFilter, frozen=True, kw_only=True):
    """Which calls, newest first."""

    limit: PageSize = 100
    after: After = ""


PromptTokens = Annotated[int, Meta(description="Tokens of prompts.")]
CachedTokens = Annotated[int, Meta(description="Tokens of prompts that were read from a cache.")]
CacheCreatedTokens = Annotated[int, Meta(description="Tokens of prompts that were put into a cache.")]
CompletionTokens = Annotated[int, Meta(description="Tokens of answers.")]
ReasoningTokens = Annotated[int, Meta(description="Tokens of answers that were thoughts.")]
CostCurrency = Annotated[str, Meta(description="What `cost` is in.")]
CostNanos = Annotated[int, Meta(description="What was charged, in billionths of the currency's unit.")]
Cost = Annotated[str, Meta(description="What was charged, as an exact decimal.")]
ListCostNanos = Annotated[int, Meta(description="What the vendor's list would charge, in billionths of a yuan.")]
ListCost = Annotated[str, Meta(description="What the vendor's list would charge, as an exact decimal.")]


class UsageRow(Told, frozen=True, kw_only=True):
    """What calls came to. It has the dimensions that they are told apart by, and no others."""

    day: Annotated[date | UnsetType, Meta(description="The day, in UTC.")] = UNSET
    key_id: Annotated[str | UnsetType, Meta(description="The key.")] = UNSET
    key_name: Annotated[str | UnsetType, Meta(description="What it is called.")] = UNSET
    key_hint: Annotated[str | UnsetType, Meta(description="The last characters of its text.")] = UNSET
    workspace_id: Annotated[str | UnsetType, Meta(description="The workspace.")] = UNSET
    workspace_name: Annotated[str | UnsetType, Meta(description="What it is called.")] = UNSET
    model: Annotated[str | UnsetType, Meta(description="The name that was asked for.")] = UNSET
    deployment: Annotated[str | UnsetType, Meta(description="Who answered; empty: nobody did.")] = UNSET
    surface: Annotated[str | UnsetType, Meta(description="The surface that was called.")] = UNSET
    calls: Annotated[int, Meta(description="Calls that callers made.")]
    failed: Annotated[int, Meta(description="Those of them that failed or were interrupted.")]
    estimated: Annotated[int, Meta(description="Those of them whose counts are a guess.")]
    prompt_tokens: PromptTokens
    cached_tokens: CachedTokens
    cache_created_tokens: CacheCreatedTokens
    completion_tokens: CompletionTokens
    reasoning_tokens: ReasoningTokens
    currency: CostCurrency
    cost_nanos: CostNanos
    cost: Cost
    list_cost_nanos: ListCostNanos
    list_cost: ListCost


class Usage(Told, frozen=True, kw_only=True):
    """What calls came to."""

    since: Annotated[datetime | None, Meta(description="As asked for.")]
    until: Annotated[datetime | None, Meta(description="As asked for.")]
    by: Annotated[tuple[Word, ...], Meta(description="As asked for.")]
    rows: Annotated[tuple[UsageRow, ...], Meta(description="Days in their order, then the costliest first.")]
    total: Annotated[tuple[UsageRow, ...], Meta(description="All of them together: a row for each currency.")]


class CallView(Told, frozen=True, kw_only=True):
    """One call: a row of the ledger."""

    id: Annotated[str, Meta(description="Its request id.")]
    parent_id: Annotated[str, Meta(description="The call that it was made for; empty for a caller's own.")]
    began_at: Annotated[datetime, Meta(description="When it came.")]
    key_id: Annotated[str, Meta(description="The key that it brought.")]
    key_name: Annotated[str, Meta(description="What that is called.")]
    key_hint: Annotated[str, Meta(description="The last characters of its text.")]
    workspace_id: Annotated[str, Meta(description="Who pays.")]
    workspace_name: Annotated[str, Meta(description="What that is called.")]
    surface: Annotated[str, Meta(description="The surface that was called.")]
    model: Annotated[str, Meta(description="The name that was asked for.")]
    deployment: Annotated[str, Meta(description="Who answered; empty: nobody did.")]
    served: Annotated[str, Meta(description="How the name was answered, in a word.")]
    stream: Annotated[bool, Meta(description="Whether the answer was streamed.")]
    outcome: Annotated[Outcome, Meta(description="How it ended.")]
    status: Annotated[int, Meta(description="The HTTP status; 499 when the caller left.")]
    code: Annotated[str, Meta(description="The error's code; empty without one.")]
    finish_reason: Annotated[str, Meta(description="Why the answer ended.")]
    media: Annotated[dict[str, int], Meta(description="Units of media by their kind.")]
    estimated: Annotated[bool, Meta(description="Whether its counts are a guess.")]
    queue_ms: Annotated[float | None, Meta(description="How long it waited for a place.")]
    first_token_ms: Annotated[float | None, Meta(description="When the first token came.")]
    total_ms: Annotated[float | None, Meta(description="How long it took.")]
    price_version: Annotated[str, Meta(description="The price list that its costs were worked out by.")]
    prompt_tokens: PromptTokens
    cached_tokens: CachedTokens
    cache_created_tokens: CacheCreatedTokens
    completion_tokens: CompletionTokens
    reasoning_tokens: ReasoningTokens
    told_prompt_tokens: Annotated[
        int | None,
        Meta(
            description="Of a scenario's call, what its caller was told; what was used stands in the calls that were "
            "made for it. Null for all others."
        ),
    ]
    told_completion_tokens: Annotated[int | None, Meta(description="The same of its answer.")]
    currency: CostCurrency
    cost_nanos: CostNanos
    cost: Cost
    list_cost_nanos: ListCostNanos
    list_cost: ListCost


class CallPage(Told, frozen=True, kw_only=True):
    """Some calls, newest first."""

    data: Annotated[tuple[CallView, ...], Meta(description="The calls.")]
    next: Next


class CallContent(Told, frozen=True, kw_only=True):
    """What a call said and was told, as far as its workspace keeps that."""

    prompt: Annotated[Any, Meta(description="What was asked, as JSON.")]
    answer: Annotated[Any, Meta(description="What was answered, as JSON.")]


class CallDetail(CallView, frozen=True, kw_only=True):
    """One call, whole."""

    content: Annotated[CallContent | None, Meta(description="What was said; null: its workspace keeps nothing.")]


# Limits of models

Pattern = Annotated[
    str, Meta(min_length=1, max_length=200, pattern=_WRITABLE, description="A name, or a pattern such as `qwen3-*`.")
]


class ModelLimitsChange(Asked, frozen=True, kw_only=True):
    """A change of what a name, or each name of a pattern, is held to, for all callers together."""

    pattern: Pattern
    limits: Annotated[LimitsChange, Meta(description="What is left out stays, null takes a limit away.")]


class ModelLimitsNamed(Asked, frozen=True, kw_only=True):
    """Which limits of models."""

    pattern: Pattern


class ModelLimitsView(Told, frozen=True, kw_only=True):
    """What a name, or each name of a pattern, is held to, for all callers together."""

    pattern: Annotated[str, Meta(description="The name or pattern.")]
    limits: Annotated[LimitTerms, Meta(description="What each of its names is held to.")]
    names: Annotated[tuple[str, ...], Meta(description="The names that it stands for now.")]


class ModelLimitsPage(Told, frozen=True, kw_only=True):
    """All limits of models, in the order of their patterns."""

    data: Annotated[tuple[ModelLimitsView, ...], Meta(description="The limits.")]
    next: Next = None


# Prices


class PricesAsked(Asked, frozen=True, kw_only=True):
    """Whose prices."""

    name: Annotated[
        Patterns, Meta(description="Names, aliases or patterns (`qwen3-*`); can be repeated; none: all.")
    ] = ()


class Price(Told, frozen=True, kw_only=True):
    """What the list charges for a name."""

    name: Annotated[str, Meta(description="The name.")]
    tiers: Annotated[tuple[PriceTier, ...], Meta(description="Its prices by the length of the prompt; none: no price.")]


class OwnPrices(Told, frozen=True, kw_only=True):
    """What the operator says that a deployment costs."""

    deployment: Annotated[str, Meta(description="The deployment.")]
    names: Annotated[tuple[str, ...], Meta(description="Patterns of the names that they hold for.")]
    currency: Annotated[str, Meta(description="What they are in.")]
    tiers: Annotated[tuple[PriceTier, ...], Meta(description="Prices by the length of the prompt.")]


class Prices(Told, frozen=True, kw_only=True):
    """The prices that calls are charged by now."""

    version: Annotated[str, Meta(description="The version that rows of the ledger name.")]
    currency: Annotated[str, Meta(description="What prices are in.")]
    per_tokens: Annotated[int, Meta(description="How many tokens a price is for.")]
    prices: Annotated[tuple[Price, ...], Meta(description="The names.")]
    own: Annotated[tuple[OwnPrices, ...], Meta(description="The operator's own prices, which come first.")]


class PriceListView(Told, frozen=True, kw_only=True):
    """A price list as it was used: an old row's cost can be worked out again."""

    version: Annotated[str, Meta(description="Its version, which rows of the ledger name.")]
    made_at: Annotated[datetime, Meta(description="When it was first used.")]
    list: Annotated[Any, Meta(description="All of its prices: by name, and the operator's own by deployment.")]


# Audit


class AuditAsked(Asked, frozen=True, kw_only=True):
    """Which changes, newest first."""

    subject: Annotated[Text, Meta(description="Changes of this key, workspace or price list, by its id.")] = ""
    who: Annotated[Text, Meta(description="Changes by this key, or by `cli`.")] = ""
    limit: PageSize = 100
    after: After = ""


class AuditView(Told, frozen=True, kw_only=True):
    """One change."""

    id: Annotated[int, Meta(description="Its number.")]
    at: Annotated[datetime, Meta(description="When it was made.")]
    who: Annotated[str, Meta(description="By whom: a key's id, `cli` for the home's own commands, empty for Hanlin.")]
    what: Annotated[str, Meta(description="What was done.")]
    subject: Annotated[str, Meta(description="To what.")]
    before: Annotated[Any, Meta(description="What it was like; null where there was nothing.")]
    after: Annotated[Any, Meta(description="What it was like then; null where there is nothing.")]


class AuditPage(Told, frozen=True, kw_only=True):
    """Some changes, newest first."""

    data: Annotated[tuple[AuditView, ...], Meta(description="The changes.")]
    next: Next
