"""Which service a command speaks to, and which key it may see."""

from pathlib import Path

import pytest

from hanlin.cli.client import is_local, key_in, target
from hanlin.cli.show import Failed
from hanlin.errors import StartupError
from hanlin.home import Home, lock, prepare

KEYS = {"HANLIN_API_KEY": "sk-of-this-home", "DASHSCOPE_API_KEY": "sk-of-the-vendor", "OTHER_KEY": "sk-other"}


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8080/v1", True),
        ("http://127.3.2.1/v1", True),
        ("http://localhost:1", True),
        ("http://[::1]:8080", True),
        ("http://0.0.0.0:8080", True),
        ("https://dashscope.aliyuncs.com/compatible-mode/v1", False),
        ("http://10.0.0.7:8080", False),
        ("http://localhost.example.org", False),
        ("http://127.0.0.1.example.org", False),
    ],
)
def test_an_address_is_local_only_when_it_is_this_machines_own(url: str, local: bool) -> None:
    """The key of this home and the proxy settings depend on it."""
    assert is_local(url) is local


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://127.0.0.1", "http://", "http://[x", "file:///etc/passwd"])
def test_what_is_no_address_is_refused_with_its_text(url: str) -> None:
    """A forgotten http:// is the usual slip."""
    with pytest.raises(Failed, match="http://"):
        is_local(url)


def test_a_local_service_gets_the_key_of_this_home_before_the_vendors(home: Home) -> None:
    """Both variables are usual; the more particular one counts."""
    both = target(home, "http://127.0.0.1:8080/v1/", None, KEYS)
    only = target(home, "http://127.0.0.1:8080/v1/", None, {"DASHSCOPE_API_KEY": "sk-adopted"})

    assert (both.url, both.key.reveal()) == ("http://127.0.0.1:8080/v1", "sk-of-this-home")
    assert only.key.reveal() == "sk-adopted"


def test_a_service_elsewhere_gets_no_key_unless_its_variable_is_named(home: Home) -> None:
    """An address that was pasted from somewhere must not be told this home's key."""
    unasked = target(home, "https://models.example.org/v1", None, KEYS)
    named = target(home, "https://models.example.org/v1", "OTHER_KEY", KEYS)

    assert unasked.key.reveal() == ""
    assert named.key.reveal() == "sk-other"


def test_a_variable_that_was_named_and_is_not_set_is_said(home: Home) -> None:
    """Sending no key instead would end in a riddle."""
    with pytest.raises(Failed, match="OTHER_KEY is not set"):
        target(home, "https://models.example.org/v1", "OTHER_KEY", {})


def test_a_key_that_no_header_can_carry_is_refused_without_showing_it() -> None:
    """A key pasted with a full-width character would otherwise end in a traceback that holds it."""
    with pytest.raises(StartupError, match="HANLIN_API_KEY") as caught:
        key_in(None, {"HANLIN_API_KEY": "sk-秘密"})

    assert "秘密" not in str(caught.value)


def test_the_service_that_runs_on_the_home_is_found(home: Home) -> None:
    """Nobody should have to type the address of the service beside him."""
    prepare(home)
    with lock(home) as held:
        held.announce("http://127.0.0.1:9999/compatible-mode/v1")

        found = target(home, None, None, KEYS)

    assert found.url == "http://127.0.0.1:9999/compatible-mode/v1"


def test_without_a_service_the_remedy_is_said(home: Home) -> None:
    """The first thing that a newcomer tries is `hanlin chat`."""
    with pytest.raises(Failed, match="hanlin serve"):
        target(home, None, None, KEYS)
