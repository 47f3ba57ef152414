"""The shared words: putting a stream of events together, messages, and usage."""

from hypothesis import given
from hypothesis import strategies as st

from hanlin.types import Choice, Event, MediaPart, Message, TextPart, TokenLogprob, Usage, fold

A, B = TokenLogprob("a", -0.1), TokenLogprob("b", -0.2)


def test_the_texts_of_a_choice_are_joined_in_the_order_in_which_they_came() -> None:
    """The unstreamed answer is the streamed one put together, nothing else."""
    result = fold([Event(text="Hel"), Event(text="lo"), Event(finish_reason="stop"), Event(usage=Usage(3, 2))])

    assert result.choices == (Choice(0, "Hello", "stop"),)
    assert result.usage == Usage(3, 2)


def test_choices_that_came_interleaved_are_told_apart_and_put_in_order() -> None:
    """Choices run at the same time, and the second may well speak first."""
    result = fold(
        [
            Event(1, "b", finish_reason=None),
            Event(0, "a", finish_reason="length"),
            Event(1, "B", finish_reason="stop"),
        ]
    )

    assert result.choices == (Choice(0, "a", "length"), Choice(1, "bB", "stop"))


def test_logprobs_are_joined_and_absent_where_none_came() -> None:
    """An answer without logprobs has null, not an empty list."""
    result = fold([Event(0, "a", (A,)), Event(0, "b", (B,)), Event(1, "c")])

    assert [choice.logprobs for choice in result.choices] == [(A, B), None]


def test_an_answer_that_was_cut_has_no_finish_reason() -> None:
    """It must not look like a complete one."""
    assert fold([Event(text="half")]).choices == (Choice(0, "half", None),)


def test_an_answer_without_a_word_is_still_a_choice() -> None:
    """A model may stop at once: the caller gets an empty text, not an empty list."""
    assert fold([Event(finish_reason="stop")]).choices == (Choice(0, "", "stop"),)
    assert fold([]).choices == ()


@given(st.text(), st.lists(st.integers(0, 100)))
def test_however_a_text_is_cut_it_folds_to_itself(text: str, cuts: list[int]) -> None:
    """Engines cut where they like."""
    ends = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})

    events = [Event(text=text[start:end]) for start, end in zip(ends, ends[1:] or [len(text)], strict=False)]

    assert "".join(choice.text for choice in fold(events).choices) == text


def test_a_message_knows_its_text_and_its_media() -> None:
    """Parts are joined without a separator, as the vendor does; media are no text."""
    picture = MediaPart("image", b"{}")  # type: ignore[arg-type]

    assert Message("user", "plain").text == "plain"
    assert Message("user", "plain").media == ()
    assert Message("user", (TextPart("a"), picture, TextPart("b"))).text == "ab"
    assert Message("user", (TextPart("a"), picture)).media == (picture,)


def test_usage_adds_up_field_by_field() -> None:
    """Totals are never stored, so they cannot disagree with their parts."""
    total = Usage(10, 5, cached=2, reasoning=1) + Usage(1, 2, cached=1, reasoning=2)

    assert total == Usage(11, 7, cached=3, reasoning=3)
    assert total.total == 18
