"""Pages become passages: nothing is lost, order is kept, sizes are bounded, cuts are where the author made them."""

import tracemalloc
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from hanlin.documents.passages import Sizes, passages, size_tokens
from hanlin.documents.values import Page, Passage

SMALL = Sizes(least=20, good=30, most=40, shared=6)

LINES = st.one_of(
    st.text(max_size=300),
    st.sampled_from(
        [
            "# 总则",
            "## Scope of delivery",
            "第一章 总则",
            "Chapter 4: Results",
            "| a | b |\n| --- | --- |\n" + "| 一 | two |\n" * 40 + "| 末 | last |",
            "```\n" + "x = 1\n" * 60 + "```",
            "合同自签字之日起生效。双方应当遵守。" * 9,
            "The pump was tested. It works! Does it? " * 9,
            "无标点" * 200,
            "y" * 2000,
            "",
        ]
    ),
)


def squeezed(text: str) -> str:
    return "".join(text.split())


def cut(*texts: str, sizes: Sizes | None = None) -> list[Passage]:
    return list(passages([Page(number, text) for number, text in enumerate(texts, 1)], sizes))


def uncovered(pages: list[str], found: list[Passage]) -> str:
    """Return what of the pages is in no passage in its order, blanks apart: all text, taken off piece by piece."""
    whole = squeezed("".join(pages))
    place = 0  # so far everything was seen
    for passage in found:
        text = squeezed(passage.text)
        # It begins at or before what is next, or it has the head of a table above what is next.
        ends = [place]
        for start in range(len(text)):
            begins = whole.rfind(text[start:], 0, place + len(text) - start)
            ends += [begins + len(text) - start] if begins != -1 else []
        place = max(ends)
    return whole[place:]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(LINES, max_size=6).map("\n\n".join), max_size=5))
def test_every_character_is_in_some_passage_and_in_its_order(pages: list[str]) -> None:
    """What a passage does not have, no question finds."""
    assert uncovered(pages, cut(*pages, sizes=SMALL)) == ""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(LINES, max_size=6).map("\n\n".join), max_size=5))
def test_passages_are_bounded_numbered_and_know_their_pages(pages: list[str]) -> None:
    """One that is too large pushes others out of a prompt; one that names the wrong page is cited wrongly."""
    found = cut(*pages, sizes=SMALL)

    # A heading is never cut, and may be as long as a line of two hundred characters.
    assert all(size_tokens(passage.text) <= max(SMALL.most, 200) for passage in found)
    assert [passage.number for passage in found] == list(range(len(found)))
    assert all(1 <= passage.first_page <= passage.last_page <= len(pages) for passage in found)
    assert [p.last_page for p in found] == sorted(p.last_page for p in found)
    assert all(passage.text.strip() for passage in found)


def test_a_chinese_passage_has_300_to_600_characters_and_ends_with_a_sentence() -> None:
    """Half a sentence cannot be read by itself."""
    found = cut(*["".join(f"第{n}号泵站于当年完成验收，运行情况良好。" for n in range(80))] * 3)

    assert all(300 <= len(passage.text) <= 600 for passage in found[:-1])
    assert all(passage.text.rstrip()[-1] == "。" for passage in found)


def test_an_english_passage_has_400_to_800_tokens() -> None:
    """At four and a half letters a token; paragraphs stay whole."""
    paragraph = "The pump was replaced in spring, and nobody has complained about the noise since then. " * 6
    found = cut("\n\n".join([paragraph] * 30))

    assert all(400 <= size_tokens(passage.text) <= 800 for passage in found[:-1])
    assert all(passage.text.rstrip().endswith("then.") for passage in found)


def test_a_passage_begins_with_the_last_sentences_of_the_one_before() -> None:
    """A sentence beside the cut would be without what it refers to."""
    first, second = cut("".join(f"第{n}号泵站于当年完成验收，运行情况良好。" for n in range(40)))[:2]

    shared = second.text[: second.text.index("。") + 1]
    assert shared in first.text
    assert 0.05 < sum(s in first.text for s in second.text.split("。") if s) / second.text.count("。") < 0.25


def test_a_heading_begins_a_passage_and_repeats_nothing() -> None:
    """What stands above a heading is about something else."""
    body = "设备应当定期检查。" * 50
    first, second = cut(f"# 检查\n\n{body}\n\n# 维修\n\n{'损坏的部件须立即更换。' * 40}")

    assert (first.heading, second.heading) == ("检查", "维修")
    assert second.text.startswith("# 维修")
    assert "定期检查" not in second.text


def test_short_sections_share_a_passage() -> None:
    """A passage for each line of a list of definitions would be nothing to read."""
    found = cut("\n\n".join(f"### 术语{n}\n\n解释其含义。" for n in range(12)))

    assert len(found) == 1


def test_a_heading_is_not_the_last_line_of_a_passage() -> None:
    """It belongs to what comes after it."""
    for sentences in range(1, 60):
        body = "设备应当定期检查，并且记录结果。" * sentences
        found = cut(f"{body}\n\n## 备件\n\n{body}")

        assert not any(passage.text.endswith("## 备件") for passage in found)


def test_headings_above_are_told_from_the_outermost_on() -> None:
    """A passage out of the middle of a book says where it is from."""
    body = "各项指标均已达到要求。" * 60
    found = cut(f"# 第一部分\n\n## 泵站\n\n### 验收\n\n{body}\n\n## 管网\n\n{body}")

    assert [passage.heading for passage in found][:1] == ["第一部分 › 泵站 › 验收"]
    assert found[-1].heading == "第一部分 › 管网"


def test_chapters_without_marks_are_headings_too() -> None:
    """Plain text and PDF have no marks for them."""
    body = "各项指标均已达到要求。" * 60
    found = cut(f"第三章 泵站\n\n{body}", f"Chapter 4: Pipes\n\n{body}")

    assert {passage.heading for passage in found} == {"第三章 泵站", "Chapter 4: Pipes"}


def test_a_sentence_that_begins_like_a_chapter_is_none() -> None:
    """第三章规定…… is a sentence about a chapter."""
    (found,) = cut("第三章规定了验收的办法，双方应当遵守。其余从略。")

    assert found.heading == ""


def test_a_table_stays_whole_where_it_fits() -> None:
    """A row without the others, and without its head, says little."""
    table = "| 设备 | 功率 |\n| --- | --- |\n" + "\n".join(f"| 泵{n} | {n} kW |" for n in range(20))
    found = cut("说明。" * 130 + "\n\n" + table + "\n\n" + "后记。" * 130)

    assert sum(table in passage.text for passage in found) == 1


def test_a_table_that_does_not_fit_repeats_its_head() -> None:
    """A number in the tenth part of a table means nothing without the name of its column."""
    head = "| 设备 | 额定功率 |\n| --- | --- |"
    rows = [f"| 循环水泵{n} | {n} kW |" for n in range(400)]
    found = cut("\n".join([head, *rows]))

    assert len(found) > 3
    assert all(passage.text.startswith(head) for passage in found)
    assert [row for passage in found for row in passage.text.splitlines()[2:]] == rows


def test_blank_pages_are_counted_and_yield_nothing() -> None:
    """A scan without text must not become a passage, nor move the numbers of the pages after it."""
    found = cut("", " \n\n\t", "正文在第三页。")

    assert [(passage.first_page, passage.text) for passage in found] == [(3, "正文在第三页。")]


def test_pages_are_read_as_they_come() -> None:
    """15,000 pages take the memory of a few."""
    text = "各项指标均已达到要求，请存档。" * 60

    def pages() -> Iterator[Page]:
        for number in range(1, 301):
            yield Page(number, f"{number}{text}")

    tracemalloc.start()
    try:
        count = sum(1 for _ in passages(pages()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert count > 300
    assert peak < 500_000
