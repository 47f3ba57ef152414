"""The language that people read."""

import pytest

from hanlin.words import is_chinese, say


@pytest.mark.parametrize(
    ("environment", "chinese"),
    [
        ({}, False),
        ({"LANG": "zh_CN.UTF-8"}, True),
        ({"LANG": "zh_TW"}, True),
        ({"LANG": "ZH"}, True),
        ({"LANG": "en_US.UTF-8"}, False),
        ({"LANG": "C"}, False),
        ({"LC_MESSAGES": "zh_CN", "LANG": "en_US"}, True),
        ({"LC_ALL": "C", "LC_MESSAGES": "zh_CN"}, False),
        ({"HANLIN_LANG": "zh", "LC_ALL": "en_US"}, True),
        ({"HANLIN_LANG": "en", "LANG": "zh_CN"}, False),
        ({"HANLIN_LANG": "", "LANG": "zh_CN"}, True),
    ],
)
def test_the_first_variable_that_is_set_decides(environment: dict[str, str], chinese: bool) -> None:
    """Ours, then the system's in its own order; one that is empty says nothing."""
    assert is_chinese(environment) is chinese


def test_a_sentence_is_said_in_the_users_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the time when it is said, not when the module is loaded."""
    monkeypatch.setenv("HANLIN_LANG", "zh")
    assert say("ready", "就绪") == "就绪"

    monkeypatch.setenv("HANLIN_LANG", "en")
    assert say("ready", "就绪") == "ready"
