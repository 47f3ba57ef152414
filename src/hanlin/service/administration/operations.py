"""What can be administered, as one table: the HTTP front serves it, the command line calls it, the OpenAPI description
is written from it.
"""

from typing import Any, Literal, Protocol

import msgspec

from hanlin.service.administration.values import (
    AuditAsked,
    AuditPage,
    CallDetail,
    CallPage,
    CallsAsked,
    KeyChange,
    KeyPage,
    KeysAsked,
    KeyView,
    MadeKey,
    ModelLimitsChange,
    ModelLimitsNamed,
    ModelLimitsPage,
    ModelLimitsView,
    NewKey,
    NewWorkspace,
    PriceListView,
    Prices,
    PricesAsked,
    RotatedKey,
    Rotation,
    Usage,
    UsageAsked,
    WorkspaceChange,
    WorkspacePage,
    WorkspacesAsked,
    WorkspaceView,
)

PREFIX = "/admin/v1"


class Administration(Protocol):
    """Somebody who administers a service: on its database (`Steward`), or over its admin API.

    The methods are the operations of the table below. Each raises HanlinError for what is refused.
    """

    async def me(self) -> KeyView: ...
    async def keys(self, asked: KeysAsked, /) -> KeyPage: ...
    async def key(self, key_id: str, /) -> KeyView: ...
    async def make_key(self, new: NewKey, /) -> MadeKey: ...
    async def change_key(self, key_id: str, change: KeyChange, /) -> KeyView: ...
    async def rotate_key(self, key_id: str, rotation: Rotation, /) -> RotatedKey: ...
    async def revoke_key(self, key_id: str, /) -> KeyView: ...
    async def workspaces(self, asked: WorkspacesAsked, /) -> WorkspacePage: ...
    async def workspace(self, word: str, /) -> WorkspaceView: ...
    async def make_workspace(self, new: NewWorkspace, /) -> WorkspaceView: ...
    async def change_workspace(self, word: str, change: WorkspaceChange, /) -> WorkspaceView: ...
    async def usage(self, asked: UsageAsked, /) -> Usage: ...
    async def calls(self, asked: CallsAsked, /) -> CallPage: ...
    async def call(self, call_id: str, /) -> CallDetail: ...
    async def limits(self) -> ModelLimitsPage: ...
    async def change_limits(self, change: ModelLimitsChange, /) -> ModelLimitsView: ...
    async def remove_limits(self, named: ModelLimitsNamed, /) -> ModelLimitsView: ...
    async def prices(self, asked: PricesAsked, /) -> Prices: ...
    async def price_list(self, version: str, /) -> PriceListView: ...
    async def audit(self, asked: AuditAsked, /) -> AuditPage: ...


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One way to administer. `name` is the method of an Administration, `role` the least that may call it.

    A method's arguments are the path's part in braces, where it has one, and then `query` (from the parameters) or
    `body` (from JSON). `subject` says what the part in braces is. `lists` is the field of the answer whose rows CSV
    consists of; "" for an answer that is JSON only.
    """

    name: str
    method: Literal["GET", "POST", "PATCH"]
    path: str
    role: Literal["viewer", "admin", "owner"]
    sentence: str
    answer: Any
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    status: int = 200
    subject: str = ""
    lists: Literal["", "rows", "data"] = ""


_KEY = "The key's id."
_WORKSPACE = "The workspace's id or name."

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        name="me",
        method="GET",
        path="/me",
        role="viewer",
        sentence="Return the key that this call brings.",
        answer=KeyView,
    ),
    Operation(
        name="keys",
        method="GET",
        path="/keys",
        role="viewer",
        sentence="List keys, revoked and expired ones too.",
        answer=KeyPage,
        query=KeysAsked,
        lists="data",
    ),
    Operation(
        name="make_key",
        method="POST",
        path="/keys",
        role="admin",
        sentence="Make a key. Its text is in this answer, and nowhere else ever again.",
        answer=MadeKey,
        body=NewKey,
        status=201,
    ),
    Operation(
        name="key",
        method="GET",
        path="/keys/{key}",
        role="viewer",
        sentence="Return a key.",
        answer=KeyView,
        subject=_KEY,
    ),
    Operation(
        name="change_key",
        method="PATCH",
        path="/keys/{key}",
        role="admin",
        sentence="Change what a key may do. It counts within a second.",
        answer=KeyView,
        body=KeyChange,
        subject=_KEY,
    ),
    Operation(
        name="rotate_key",
        method="POST",
        path="/keys/{key}/rotate",
        role="admin",
        sentence="Replace a key by a new one that may the same; the old one works for a while yet.",
        answer=RotatedKey,
        body=Rotation,
        status=201,
        subject=_KEY,
    ),
    Operation(
        name="revoke_key",
        method="POST",
        path="/keys/{key}/revoke",
        role="admin",
        sentence="Stop a key for good. Calls with it are refused within a second.",
        answer=KeyView,
        subject=_KEY,
    ),
    Operation(
        name="workspaces",
        method="GET",
        path="/workspaces",
        role="viewer",
        sentence="List workspaces.",
        answer=WorkspacePage,
        query=WorkspacesAsked,
        lists="data",
    ),
    Operation(
        name="make_workspace",
        method="POST",
        path="/workspaces",
        role="admin",
        sentence="Make a workspace.",
        answer=WorkspaceView,
        body=NewWorkspace,
        status=201,
    ),
    Operation(
        name="workspace",
        method="GET",
        path="/workspaces/{workspace}",
        role="viewer",
        sentence="Return a workspace.",
        answer=WorkspaceView,
        subject=_WORKSPACE,
    ),
    Operation(
        name="change_workspace",
        method="PATCH",
        path="/workspaces/{workspace}",
        role="admin",
        sentence="Change a workspace's name, its limits, or whether it keeps content. It counts within a second.",
        answer=WorkspaceView,
        body=WorkspaceChange,
        subject=_WORKSPACE,
    ),
    Operation(
        name="usage",
        method="GET",
        path="/usage",
        role="viewer",
        sentence="Add up what calls came to.",
        answer=Usage,
        query=UsageAsked,
        lists="rows",
    ),
    Operation(
        name="calls",
        method="GET",
        path="/calls",
        role="viewer",
        sentence="List calls one by one, newest first.",
        answer=CallPage,
        query=CallsAsked,
        lists="data",
    ),
    Operation(
        name="call",
        method="GET",
        path="/calls/{call}",
        role="admin",
        sentence="Return one call, with what was said in it where its workspace keeps that.",
        answer=CallDetail,
        subject="The call's request id.",
    ),
    Operation(
        name="limits",
        method="GET",
        path="/limits",
        role="viewer",
        sentence="List the limits of models, all callers together.",
        answer=ModelLimitsPage,
        lists="data",
    ),
    Operation(
        name="change_limits",
        method="PATCH",
        path="/limits",
        role="admin",
        sentence="Set or change the limits of a name, or of each name of a pattern. They count within a second.",
        answer=ModelLimitsView,
        body=ModelLimitsChange,
    ),
    Operation(
        name="remove_limits",
        method="POST",
        path="/limits/remove",
        role="admin",
        sentence="Remove the limits of a name or pattern.",
        answer=ModelLimitsView,
        body=ModelLimitsNamed,
    ),
    Operation(
        name="prices",
        method="GET",
        path="/prices",
        role="viewer",
        sentence="Return the list prices that calls are charged by now.",
        answer=Prices,
        query=PricesAsked,
    ),
    Operation(
        name="price_list",
        method="GET",
        path="/prices/{version}",
        role="viewer",
        sentence="Return a price list that calls were charged by.",
        answer=PriceListView,
        subject="The list's version.",
    ),
    Operation(
        name="audit",
        method="GET",
        path="/audit",
        role="viewer",
        sentence="List changes: by whom, what, before and after.",
        answer=AuditPage,
        query=AuditAsked,
        lists="data",
    ),
)

BY_NAME = {operation.name: operation for operation in OPERATIONS}
