"""A conversation as a value, and the lines that speak to the program instead of the model."""

import pytest

from hanlin.cli.chat import Talk, obey


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


TALK = Talk("qwen-plus").asked("你好").answered("你好！")


def test_every_question_is_sent_with_all_that_was_said_before() -> None:
    """Otherwise the model would not know what 'it' is."""
    talk = TALK.asked("翻译成英文")

    assert [turn["role"] for turn in talk.messages] == ["user", "assistant", "user"]
    assert talk.messages[-1]["content"] == "翻译成英文"


def test_the_system_message_leads_whenever_it_was_set() -> None:
    """It holds for the whole conversation, and an empty one takes it away."""
    with_system = obey("/system 用英文回答", TALK).talk
    assert with_system is not None
    without = obey("/system", with_system).talk
    assert without is not None

    assert with_system.messages == ({"role": "system", "content": "用英文回答"}, *TALK.messages)
    assert without.messages == TALK.messages


def test_another_model_goes_on_with_the_same_conversation() -> None:
    """Comparing two models on one question is what the command is for."""
    step = obey("/model qwen3-max", TALK)

    assert step.talk == Talk("qwen3-max", turns=TALK.turns)
    assert "qwen3-max" in step.said
    assert obey("/model", TALK).talk == TALK


def test_a_cleared_conversation_keeps_model_and_system_message() -> None:
    """What was chosen stays chosen."""
    step = obey("/clear", Talk("qwen3-max", "Be short.", TALK.turns))

    assert step.talk == Talk("qwen3-max", "Be short.")


@pytest.mark.parametrize("line", ["/exit", "/quit"])
def test_exit_ends_the_conversation(line: str) -> None:
    """As every other chat program has it."""
    assert obey(line, TALK).talk is None


def test_an_unknown_command_changes_nothing_and_lists_the_known_ones() -> None:
    """A slip must not be sent to the model as a question."""
    step = obey("/modle qwen3-max", TALK)

    assert step.talk == TALK
    assert "/modle is unknown" in step.said
    assert all(command in step.said for command in ("/model", "/system", "/clear", "/exit"))
