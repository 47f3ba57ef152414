"""Values of a form out of a base model: held to it, asked in words, corrected, and given up in the end."""

import json
from typing import Any

import pytest

from hanlin.errors import AnswerUnfit, ContextLengthExceeded, EngineFailed, InvalidRequest
from hanlin.recipes.jsontext import first_json
from hanlin.recipes.shaped import TRIES, Unfit, ask, parsed, value_of
from hanlin.types import ChatRequest, Message
from tests.desks import SaidBase

FORM: Any = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
QUESTION = Message("user", "How many?")


def answering(*answers: str | Exception, shapes: bool = True) -> SaidBase:
    """Return a base that gives these answers, one after another."""
    left = list(answers)
    return SaidBase(lambda request: left.pop(0), shapes=shapes)


async def value(base: SaidBase, max_tokens: int = 100) -> Any:
    return await ask(base, "m", [QUESTION], FORM, max_tokens=max_tokens)


async def test_a_base_is_held_to_the_form_where_it_can_be() -> None:
    """The prompt stays as it is: the engine sees to the form."""
    base = answering('{"n": 3}')

    assert await value(base) == {"n": 3}
    [request] = base.requests
    assert request.shape is not None
    assert request.shape.schema == FORM
    assert request.messages == (QUESTION,)


async def test_a_base_that_cannot_be_held_is_told_the_form() -> None:
    """Behind the question, which is not lost."""
    base = answering('{"n": 3}', shapes=False)

    assert await value(base) == {"n": 3}
    [request] = base.requests
    assert request.messages[-1].text.startswith("How many?\n\nJSON Schema:\n")
    assert json.dumps(FORM, separators=(",", ":")) in request.messages[-1].text


@pytest.mark.parametrize("shapes", [True, False])
async def test_what_is_wrong_is_said_and_asked_for_again(shapes: bool) -> None:
    """With the answer that was wrong, the last one only: a prompt does not grow with every try."""
    base = answering("three", '{"n": "many"}', '{"n": 3}', shapes=shapes)

    assert await value(base) == {"n": 3}
    first, second = base.requests[1:]
    assert [one.text for one in first.messages[-2:]] == ["three", "not JSON: there is no object in it\nJSON:"]
    assert second.messages[-2].text == '{"n": "many"}'
    assert "/n" in second.messages[-1].text
    assert len(second.messages) == 3
    assert "JSON Schema" in second.messages[0].text  # also for an engine that lets what it holds slip


@pytest.mark.parametrize("refusal", [InvalidRequest("no such schema here"), AnswerUnfit("could not be held")])
async def test_an_engine_that_refuses_the_form_is_asked_in_words(refusal: Exception) -> None:
    """Other engines take other schemas; the question is the same."""
    base = answering(refusal, '{"n": 3}')

    assert await value(base) == {"n": 3}
    held, told = base.requests
    assert held.shape is not None
    assert told.shape is None
    assert "JSON Schema" in told.messages[-1].text


async def test_what_was_refused_in_words_is_refused() -> None:
    """It was not the form then."""
    with pytest.raises(InvalidRequest, match="nor this"):
        await value(answering(InvalidRequest("not this"), InvalidRequest("nor this")))


@pytest.mark.parametrize("error", [EngineFailed("it died"), ContextLengthExceeded("m", 9, 8)])
async def test_what_is_no_matter_of_form_is_the_callers(error: Exception) -> None:
    """A prompt that is too long does not get shorter with the form in it."""
    base = answering(error)

    with pytest.raises(type(error)):
        await value(base)
    assert len(base.requests) == 1


async def test_what_finds_no_room_for_another_try_is_unfit() -> None:
    """The caller's own prompt was short enough; what was said of the answer made it too long."""
    with pytest.raises(Unfit, match="no object"):
        await value(answering("three", ContextLengthExceeded("m", 9, 8)))


async def test_it_is_given_up_after_some_tries() -> None:
    """A model that cannot do it is not asked for ever."""
    base = answering(*["no"] * TRIES)

    with pytest.raises(Unfit) as unfit:
        await value(base)
    assert not unfit.value.cut
    assert len(base.requests) == TRIES


async def test_an_answer_that_is_cut_off_is_not_asked_for_again() -> None:
    """It would be cut off again: whoever asks can ask for less."""
    base = answering('{"n": 30000}')

    with pytest.raises(Unfit) as unfit:
        await value(base, max_tokens=5)
    assert unfit.value.cut
    assert len(base.requests) == 1


async def test_what_does_as_well_is_accepted() -> None:
    """A base is held to all the fields; where it leaves some out nonetheless, what there is counts."""
    base = answering("{}")

    assert await value_of(base, ChatRequest("m", (QUESTION,)), FORM, "n", {**FORM, "required": []}) == {}


@pytest.mark.parametrize(
    "text", ['{"n": 3}', '```json\n{"n": 3}\n```', 'It is {"n": 3}.', "{'n': 3,}", '{"n": "3"}', '{"n": 3.0}']
)
def test_an_object_is_read_however_it_was_written(text: str) -> None:
    """Models fence, explain and quote; what is meant is plain."""
    assert parsed(text, FORM) == ({"n": 3}, "")


@pytest.mark.parametrize("text", ['{"n": NaN}', '{"n": Infinity}', '{"n": 1e999}', "{'n': float('inf')}"])
def test_numbers_that_json_does_not_have_are_no_values(text: str) -> None:
    """They would be written into answers that no parser takes."""
    assert first_json(text, lambda one: isinstance(one, dict)) is None


def test_no_value_that_is_read_is_nested_deep() -> None:
    """Whoever walks one that is comes to the end of the stack."""
    whole, deep = ('{"a":' * levels + "1" + "}" * levels for levels in (50, 900))

    assert first_json(whole) is not None
    found = first_json(deep)
    assert found is None or found.text.count("{") < 70
