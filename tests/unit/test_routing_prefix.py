"""Who has read the beginning of a prompt already: fingerprints, and the index that is made of them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hanlin.routing.prefix import BLOCK_CHARACTERS, BLOCKS_LIMIT, PrefixIndex, fingerprints

SYSTEM = "You are a helpful assistant. " * 100  # 2,900 characters: five blocks and a rest


def prompt(*texts: str) -> tuple[int, ...]:
    return fingerprints(["system", SYSTEM, *texts])


# --- fingerprints ----------------------------------------------------------------------------------------------------


def test_there_is_one_fingerprint_for_every_whole_block() -> None:
    """A rest has no end yet: the next prompt of the same conversation goes on right there."""
    assert [len(fingerprints(["x" * length])) for length in (0, 511, 512, 1023, 1024)] == [0, 0, 1, 1, 2]


def test_a_fingerprint_stands_for_all_that_comes_before_it() -> None:
    """An engine's cache is of use only as long as every token from the start on is the same."""
    one, other = fingerprints(["x" * 2048]), fingerprints(["y" + "x" * 2047])

    assert not set(one) & set(other)


def test_prompts_that_begin_alike_have_their_first_fingerprints_in_common() -> None:
    """Two users of one assistant share its instructions, and nothing after them."""
    one, other = prompt("user", "a" * 1024), prompt("user", "b" * 1024)

    assert one[:5] == other[:5]
    assert not set(one[5:]) & set(other[5:])


def test_where_one_piece_ends_and_the_next_begins_makes_a_difference() -> None:
    """A role is another prompt than the same letters at the end of a text."""
    assert fingerprints(["ab", "c" * 600]) != fingerprints(["a", "b" + "c" * 600])


@given(st.lists(st.text(max_size=3000), max_size=9), st.text(max_size=3000))
@settings(deadline=None)
def test_a_conversation_that_goes_on_keeps_the_fingerprints_it_had(texts: list[str], added: str) -> None:
    """The law of the chain: what is added at the end changes nothing before it."""
    before, after = fingerprints(texts), fingerprints([*texts, added])

    assert after[: len(before)] == before


def test_a_prompt_of_any_length_is_looked_at_up_to_a_bound() -> None:
    """Ten megabytes must not hold the loop: what decides is the beginning."""
    longest = BLOCKS_LIMIT * BLOCK_CHARACTERS

    assert len(fingerprints(["x" * longest])) == BLOCKS_LIMIT
    assert fingerprints(["x" * 10_000_000]) == fingerprints(["x" * longest])
    assert fingerprints(["x" * 100 for _ in range(5000)]) == fingerprints(["x" * 100 for _ in range(700)])


def test_texts_beyond_the_bound_are_not_even_asked_for() -> None:
    """The pieces may be made one by one, from parts that are costly to join."""
    asked = 0

    def texts() -> "list[str]":
        nonlocal asked
        asked += 1
        return ["x" * 70_000]

    fingerprints(text for _ in range(3) for text in texts())

    assert asked == 1


# --- the index -------------------------------------------------------------------------------------------------------


def test_a_deployment_has_read_as_much_as_it_met_from_the_beginning() -> None:
    """In characters, whole blocks only."""
    index = PrefixIndex()
    index.note(prompt("user", "a" * 5000), "gpu-1")
    index.note(prompt("user", "b" * 5000), "gpu-2")
    index.note(fingerprints(["z" * 5000]), "gpu-3")

    seen = index.seen(prompt("user", "a" * 2000))

    assert seen == {"gpu-1": 9 * BLOCK_CHARACTERS, "gpu-2": 5 * BLOCK_CHARACTERS}


def test_a_restarted_deployment_has_read_nothing() -> None:
    """Its cache died with it; sending it the old conversations would be the wrong kind of loyalty."""
    index = PrefixIndex()
    index.note(prompt(), "gpu-1")
    index.note(prompt(), "gpu-2")

    index.forget("gpu-1")
    index.forget("never heard of")

    assert set(index.seen(prompt())) == {"gpu-2"}
    assert len(index) == 5


def test_what_was_not_met_for_longest_is_forgotten_first() -> None:
    """Caches work that way, too."""
    index = PrefixIndex(limit=4)
    old, kept, new = (fingerprints([letter * 1024]) for letter in "okn")
    index.note(old, "gpu-1")
    index.note(kept, "gpu-1")
    index.note(kept, "gpu-1")

    index.note(new, "gpu-1")

    assert [bool(index.seen(each)) for each in (old, kept, new)] == [False, True, True]


def test_the_end_of_a_prompt_is_forgotten_before_its_beginning() -> None:
    """A beginning is of use without its end, an end without its beginning is never found."""
    index = PrefixIndex(limit=5)
    long = fingerprints(["x" * 2048])
    index.note(long, "gpu-1")

    index.note(fingerprints(["y" * 1024]), "gpu-1")

    assert index.seen(long) == {"gpu-1": 3 * BLOCK_CHARACTERS}


def test_the_deployment_that_holds_most_makes_room() -> None:
    """A replica with much traffic must not drive the knowledge about a quiet one out."""
    index = PrefixIndex(limit=10)
    quiet = fingerprints(["q" * 1024])
    index.note(quiet, "quiet")

    for number in range(50):
        index.note(fingerprints([chr(1000 + number) * 1024]), "busy")

    assert index.seen(quiet) == {"quiet": 1024}
    assert len(index) == 10


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6), st.sampled_from(["a", "b", "c", "forget a"]))))
@settings(deadline=None)
def test_the_index_is_bounded_and_never_claims_what_was_not_noted(steps: list[tuple[int, int, str]]) -> None:
    """The law of the index: it may forget, and it must not invent."""
    index = PrefixIndex(limit=12)
    noted: dict[str, set[tuple[int, ...]]] = {}
    for letter, blocks, deployment in steps:
        text = fingerprints([chr(97 + letter) * (blocks * BLOCK_CHARACTERS)])
        if deployment == "forget a":
            index.forget("a")
            noted.pop("a", None)
        else:
            index.note(text, deployment)
            noted.setdefault(deployment, set()).update(text[:length] for length in range(len(text) + 1))
        assert len(index) <= 12
        for name, characters in index.seen(text).items():
            assert text[: characters // BLOCK_CHARACTERS] in noted[name]
