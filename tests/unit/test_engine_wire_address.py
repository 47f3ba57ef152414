"""Where an engine listens, read from a URL; and what is refused because it would not be sent."""

import pytest

from hanlin.engines.wire import Address


@pytest.mark.parametrize(
    ("url", "address", "authority"),
    [
        ("http://127.0.0.1:9000/v1", Address("127.0.0.1", 9000, base="/v1"), "127.0.0.1:9000"),
        ("http://gpu/v1/", Address("gpu", 80, base="/v1"), "gpu"),
        ("https://api.example.org", Address("api.example.org", 443, tls=True), "api.example.org"),
        ("https://example.org:8443/a/b", Address("example.org", 8443, base="/a/b", tls=True), "example.org:8443"),
        ("http://[::1]:9000/", Address("::1", 9000), "[::1]:9000"),
        ("http://例子.cn/v 1", Address("xn--fsqu00a.cn", 80, base="/v%201"), "xn--fsqu00a.cn"),
    ],
)
def test_an_address_is_read_from_a_url(url: str, address: Address, authority: str) -> None:
    """The base path goes before every path, without a slash too many."""
    assert Address.of_url(url) == address
    assert address.authority == authority


@pytest.mark.parametrize("url", ["", "gpu:8000", "ftp://gpu/", "http://", "http://gpu:port", "unix:/tmp/x"])
def test_what_is_no_http_address_is_refused(url: str) -> None:
    """At the start, not at the first call."""
    with pytest.raises(ValueError):
        Address.of_url(url)


@pytest.mark.parametrize(
    "url", ["http://me:secret@gpu/", "htp://me:secret@gpu/", "http://gpu/v1?k=secret", "http://gpu/#secret"]
)
def test_what_would_not_be_sent_with_an_address_is_refused_with_it(url: str) -> None:
    """A key that is dropped in silence is looked for in the wrong place; nor may it come to the screen."""
    with pytest.raises(ValueError, match="gpu") as refusal:
        Address.of_url(url)

    assert "secret" not in str(refusal.value)
