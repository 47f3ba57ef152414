"""Which proxy stands between us and an address, by the variables that every HTTP program knows.

Pure: the environment is an argument. Only proxies that are spoken to in plain HTTP are known here.
"""

import base64
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from hanlin.engines.wire.address import Address
from hanlin.words import say

_DEFAULT_PORT = 3128


@dataclass(frozen=True)
class Proxy:
    """An HTTP proxy. `authorization` is the value of its Proxy-Authorization header: a secret, or empty."""

    host: str
    port: int = _DEFAULT_PORT
    authorization: str = field(default="", repr=False)

    @property
    def where(self) -> str:
        return Address(self.host, self.port).where


def proxy_for(address: Address, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for an address, or None when it is reached directly.

    | Variable | Says |
    |---|---|
    | `HTTPS_PROXY`, `HTTP_PROXY` | the proxy for https and http addresses |
    | `ALL_PROXY` | the proxy where the one above is not set |
    | `NO_PROXY` | what is reached directly: names with all that end in them, `host:port`, networks, or `*` |

    The small spelling wins over the capital one, also when it is empty. This machine is never behind a proxy. Raises
    ValueError, without repeating a password, for a proxy that is none or of a kind that is not spoken here.
    """
    if address.is_here:
        return None
    url = _variable("https_proxy" if address.tls else "http_proxy", environment) or _variable("all_proxy", environment)
    if not url or any(_covered(address, entry) for entry in _variable("no_proxy", environment).split(",")):
        return None
    return _read(url)


def _variable(name: str, environment: Mapping[str, str]) -> str:
    if name in environment:
        return environment[name].strip()
    # Under CGI the client's header `Proxy:` arrives as HTTP_PROXY (httpoxy, CVE-2016-1000110).
    if name == "http_proxy" and "REQUEST_METHOD" in environment:
        return ""
    return environment.get(name.upper(), "").strip()


def _covered(address: Address, entry: str) -> bool:
    """Whether an entry of NO_PROXY means this address."""
    entry = entry.strip().lower()
    if entry == "*":
        return True
    name = entry.removeprefix("*").removeprefix(".")
    places = (address.host.lower(), address.where.lower())
    if name and any(place == name or place.endswith(f".{name}") for place in places):
        return True
    try:
        return ipaddress.ip_address(address.host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:  # one of them is no number
        return False


def _read(url: str) -> Proxy:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http":
        raise ValueError(
            say(
                f"a {parts.scheme} proxy is not spoken here: give an http:// proxy in HTTPS_PROXY and HTTP_PROXY, "
                "or put the engine's host into NO_PROXY",
                f"不支持 {parts.scheme} 代理：请在 HTTPS_PROXY 和 HTTP_PROXY 中填写 http:// 代理，"
                "或把引擎的主机写入 NO_PROXY",
            )
        )
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ValueError(
            say(
                "the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY is not http://[user:password@]host[:port]",
                "HTTPS_PROXY、HTTP_PROXY 或 ALL_PROXY 中的代理不是 http://[用户:密码@]主机[:端口] 的形式",
            )
        )
    return Proxy(host, port or _DEFAULT_PORT, _authorization(parts.username, parts.password))


def _authorization(user: str | None, password: str | None) -> str:
    if user is None:
        return ""
    pair = f"{unquote(user)}:{unquote(password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
