"""The admin API of a running service, as the command line calls it: what fails there is told in its words."""

from typing import Any, TypeVar

import httpx2
import msgspec

from hanlin.cli.client import failures, is_local
from hanlin.cli.show import Failed
from hanlin.service.administration import rules
from hanlin.service.administration.operations import BY_NAME, PREFIX
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
from hanlin.settings import Secret
from hanlin.words import say

Answer = TypeVar("Answer")

_CONNECT_S = 5.0
_SILENCE_S = 120.0

_BASES = (PREFIX, "/compatible-mode/v1", "/v1")
"""What people have behind a service's address, when they copy it from elsewhere."""


class _Detail(msgspec.Struct):
    message: str


class _Error(msgspec.Struct):
    error: _Detail


def origin(url: str) -> str:
    """Return the address of a service without a path. Raises Failed for what is no http(s) address."""
    is_local(url)
    url = url.rstrip("/")
    return next((url.removesuffix(base) for base in _BASES if url.endswith(base)), url)


class Remote:
    """Administers the service at an address, by its operations, until `close`. Every method raises Failed, and
    InvalidRequest for what need not be sent to be refused."""

    def __init__(self, url: str, key: Secret) -> None:
        self._url = origin(url)
        try:
            # Nobody's proxy reaches this machine's own addresses.
            self._client = httpx2.AsyncClient(
                headers={"Authorization": f"Bearer {key.reveal()}"},
                timeout=httpx2.Timeout(_SILENCE_S, connect=_CONNECT_S),
                trust_env=not is_local(self._url),
            )
        except (ImportError, ValueError) as error:
            raise Failed(say(f"the proxy settings do not work: {error}", f"代理设置无效：{error}")) from error

    async def close(self) -> None:
        await self._client.aclose()

    async def me(self) -> KeyView:
        return await self._send("me", KeyView)

    async def keys(self, asked: KeysAsked, /) -> KeyPage:
        return await self._send("keys", KeyPage, asked)

    async def key(self, key_id: str, /) -> KeyView:
        return await self._send("key", KeyView, subject=key_id)

    async def make_key(self, new: NewKey, /) -> MadeKey:
        return await self._send("make_key", MadeKey, new)

    async def change_key(self, key_id: str, change: KeyChange, /) -> KeyView:
        return await self._send("change_key", KeyView, change, subject=key_id)

    async def rotate_key(self, key_id: str, rotation: Rotation, /) -> RotatedKey:
        return await self._send("rotate_key", RotatedKey, rotation, subject=key_id)

    async def revoke_key(self, key_id: str, /) -> KeyView:
        return await self._send("revoke_key", KeyView, subject=key_id)

    async def workspaces(self, asked: WorkspacesAsked, /) -> WorkspacePage:
        return await self._send("workspaces", WorkspacePage, asked)

    async def workspace(self, word: str, /) -> WorkspaceView:
        return await self._send("workspace", WorkspaceView, subject=word)

    async def make_workspace(self, new: NewWorkspace, /) -> WorkspaceView:
        return await self._send("make_workspace", WorkspaceView, new)

    async def change_workspace(self, word: str, change: WorkspaceChange, /) -> WorkspaceView:
        return await self._send("change_workspace", WorkspaceView, change, subject=word)

    async def usage(self, asked: UsageAsked, /) -> Usage:
        return await self._send("usage", Usage, asked)

    async def calls(self, asked: CallsAsked, /) -> CallPage:
        return await self._send("calls", CallPage, asked)

    async def call(self, call_id: str, /) -> CallDetail:
        return await self._send("call", CallDetail, subject=call_id)

    async def limits(self) -> ModelLimitsPage:
        return await self._send("limits", ModelLimitsPage)

    async def change_limits(self, change: ModelLimitsChange, /) -> ModelLimitsView:
        return await self._send("change_limits", ModelLimitsView, change)

    async def remove_limits(self, named: ModelLimitsNamed, /) -> ModelLimitsView:
        return await self._send("remove_limits", ModelLimitsView, named)

    async def prices(self, asked: PricesAsked, /) -> Prices:
        return await self._send("prices", Prices, asked)

    async def price_list(self, version: str, /) -> PriceListView:
        return await self._send("price_list", PriceListView, subject=version)

    async def audit(self, asked: AuditAsked, /) -> AuditPage:
        return await self._send("audit", AuditPage, asked)

    async def _send(
        self, name: str, kind: type[Answer], asked: msgspec.Struct | None = None, *, subject: str = ""
    ) -> Answer:
        operation = BY_NAME[name]
        before, braces, after = operation.path.partition("{")
        path = before + _segment(subject) + after.partition("}")[2] if braces else before
        more: dict[str, Any] = {}
        asked = None if asked is None else rules.checked(asked)
        if operation.query is not None:
            more["params"] = _parameters(asked)
        elif asked is not None:
            more["content"] = msgspec.json.encode(asked)
            more["headers"] = {"Content-Type": "application/json"}
        with failures(self._url):
            response = await self._client.request(operation.method, f"{self._url}{PREFIX}{path}", **more)
        if response.status_code != operation.status:
            raise Failed(self._refusal(response))
        try:
            return msgspec.json.decode(response.content, type=kind)
        except msgspec.DecodeError as error:
            raise Failed(self._no_admin_api()) from error

    def _refusal(self, response: httpx2.Response) -> str:
        try:
            message = msgspec.json.decode(response.content, type=_Error).error.message
        except msgspec.DecodeError:
            return f"{self._no_admin_api()} (HTTP {response.status_code})"
        if response.status_code == 401:
            message += say(
                "\nThe key is that of --admin-key or HANLIN_ADMIN_KEY; `hanlin keys create --role owner` on the "
                "service's machine makes one",
                "\n所用密钥来自 --admin-key 或 HANLIN_ADMIN_KEY；可在服务所在机器上用 "
                "`hanlin keys create --role owner` 创建",
            )
        return message

    def _no_admin_api(self) -> str:
        return say(
            f"{self._url} does not answer as Hanlin's admin API does: is it the address of a service?",
            f"{self._url} 的应答不符合 Hanlin 管理 API：它是服务的地址吗？",
        )


def _segment(text: str) -> str:
    """Return text as one part of a path; it can be no `.` and `..`, which clients take out."""
    return "".join(chr(byte) if chr(byte).isalnum() or chr(byte) in "-_" else f"%{byte:02X}" for byte in text.encode())


def _parameters(asked: msgspec.Struct | None) -> list[tuple[str, str]]:
    fields = msgspec.to_builtins(asked)
    return [
        (name, str(one))
        for name, value in fields.items()
        for one in (value if isinstance(value, list | tuple) else [value])
        if one not in (None, "")
    ]
