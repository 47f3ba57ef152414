"""Questions about documents of any length, with a base model that can read and knows nothing else."""

import asyncio
import re
from typing import Any

import msgspec
import pytest

from hanlin.errors import HanlinError, InvalidRequest
from hanlin.recipes.long_documents import LONG_DOCUMENTS
from hanlin.recipes.long_documents.answering import Answerer
from hanlin.recipes.long_documents.report import Report
from hanlin.recipes.recipe import Desk, Recipe
from hanlin.recipes.tables import written
from hanlin.types import ChatRequest, Event, Message, Sampling, Shape, fold
from tests.documents import (
    MemoryDocument,
    Scholar,
    about,
    answer,
    asked,
    document,
    events_of,
    filler,
    library,
    needles,
)
from tests.values import Clock, model

PAGES = filler(200)
FACT = "云杉项目的启动口令是蓝鲸7431，由陆明远保管。"
ACCIDENTS = ["三号仓库在2019年起火", "七号吊机在2021年倒塌", "二号锅炉在2008年爆裂", "九号渡船在1997年触礁"]


def recipe(**options: Any) -> Recipe:
    """Return the recipe with nothing remembered."""
    return Recipe("long-documents", Answerer(**options).run, LONG_DOCUMENTS.check)


async def told(
    request: ChatRequest, base: Scholar, *files: MemoryDocument, by: Recipe | None = None
) -> tuple[str, Report]:
    """Return an answer and what is reported of it."""
    result = fold(await events_of(by or recipe(), request, base, library(*files)))
    assert result.report is not None
    return result.choices[0].text, msgspec.json.decode(result.report, type=Report)


# --- what is in the prompt


async def test_a_request_without_documents_is_a_chat_like_any_other() -> None:
    """`qwen-long` is a chat model too."""
    base = Scholar(replies=[lambda _: "你好！"])
    request = asked(("system", "r"), ("user", "你好"))

    events = await events_of(recipe(), request, base, library())

    assert fold(events).choices[0].text == "你好！"
    assert base.requests == [request]


async def test_documents_that_fit_are_all_in_the_prompt_with_their_pages_and_the_question_last() -> None:
    """The model sees everything, and can say where it is from."""
    base = Scholar()
    file = document("首页。", FACT, "末页。", name="plan.docx")

    text, report = await told(about("云杉项目的启动口令是什么？", file), base, file)

    assert text == f"{FACT}（第2页）"
    assert report.strategy == "all"
    [request] = base.requests
    assert request.messages[0].text.startswith("You are a helpful assistant.\n\n[plan.docx p.1]\n首页。")
    assert request.messages[-1].text.endswith("\n\n云杉项目的启动口令是什么？")


async def test_the_prompt_of_the_next_turn_begins_as_the_last_one_did() -> None:
    """What the engine has read of documents is in its cache: the second question must not read it again."""
    file = document("首页。", FACT)
    first, second = Scholar(), Scholar()
    await told(about("启动口令是什么？", file), first, file)
    follow = asked(
        *(("system", "You are a helpful assistant."), ("system", f"fileid://{file.id}")),
        *(("user", "启动口令是什么？"), ("assistant", "蓝鲸7431"), ("user", "由谁保管？")),
    )

    await told(follow, second, file)

    assert second.requests[0].messages[0] == first.requests[0].messages[0]


async def test_a_document_that_comes_later_stands_ahead_of_the_turn_after_it() -> None:
    """Not every model reads a system message in between, and the order is the meaning."""
    one, two = document("甲方是云杉公司。", name="a.txt"), document("甲方已改为铁杉公司。", name="b.txt")
    base = Scholar(replies=[lambda _: "好"])
    request = asked(
        *(("system", "r"), ("system", f"fileid://{one.id}"), ("user", "甲方是谁？"), ("assistant", "云杉公司")),
        *(("system", f"fileid://{two.id}"), ("user", "现在呢？")),
    )

    await told(request, base, one, two)

    roles = [message.role for message in base.requests[0].messages]
    texts = [message.text for message in base.requests[0].messages]
    assert roles == ["system", "user", "assistant", "user"]
    assert "a.txt" in texts[0]
    assert "b.txt" not in texts[0]
    assert texts[3].startswith("[b.txt]\n甲方已改为铁杉公司。")


async def test_a_document_appended_in_the_second_turn_changes_the_answer() -> None:
    """Spec §2.8."""
    one, two = document("会议在杭州举行。", name="a.txt"), document("会议改在苏州举行，时间不变。", name="b.txt")
    start = (("system", "r"), ("system", f"fileid://{one.id}"), ("user", "会议在哪里举行？"))

    before = await answer(recipe(), asked(*start), Scholar(), library(one, two))
    request = asked(*start, ("assistant", before), ("system", f"fileid://{two.id}"), ("user", "会议改在哪里举行？"))
    after = await answer(recipe(), request, Scholar(), library(one, two))

    assert "杭州" in before
    assert "苏州" in after


async def test_text_in_a_system_message_is_a_document() -> None:
    """No file is needed for what a program has in hand."""
    request = asked(("system", "r"), ("system", f"合同。{FACT}"), ("user", "云杉项目的启动口令是什么？"))

    text, report = await told(request, Scholar())

    assert text.startswith(FACT)
    assert [file.name for file in report.pages] == ["text 1"]


# --- more than fits


@pytest.mark.parametrize("page", [1, 20, 40, 60, 80, 100, 120, 140, 160, 180, 200])
async def test_a_needle_in_two_hundred_pages_is_found_at_any_depth(page: int) -> None:
    """Spec §2.8: answered exactly, with its page, from a window that holds a twentieth of the file."""
    file = document(*needles(PAGES, (page, FACT)))
    base = Scholar(context_tokens=4096)

    text, report = await told(about("云杉项目的启动口令是什么？", file), base, file)

    assert "蓝鲸7431" in text
    assert f"第{page}页" in text
    assert report.strategy == "passages"
    assert report.prompt_tokens < 2200 < file.tokens / 20


async def test_a_turn_costs_about_the_same_at_any_length_of_the_document() -> None:
    """A lookup has a budget of its own, also where the window would hold more."""
    costs = []
    for pages in (200, 1000):
        file = document(*needles(filler(pages), (pages // 2, FACT)))
        _, report = await told(about("云杉项目的启动口令是什么？", file), Scholar(context_tokens=32_768), file)
        costs.append(report.prompt_tokens)

    assert max(costs) < 1.2 * min(costs)
    assert max(costs) <= 4096 + 400


async def test_a_question_that_goes_on_from_the_last_one_is_looked_for_with_its_words() -> None:
    """`Who keeps it?` has no word of its own to look for."""
    file = document(*needles(PAGES, (77, "云杉项目的启动口令由陆明远保管。"), (150, "灯具的钥匙由花房保管。")))
    request = asked(
        *(("system", "r"), ("system", f"fileid://{file.id}"), ("user", "云杉项目的启动口令是什么？")),
        *(("assistant", "蓝鲸7431"), ("user", "它由谁保管？")),
    )

    base = Scholar()
    await told(request, base, file)

    assert "陆明远" in base.prompts[-1]


async def test_facts_of_two_files_come_together() -> None:
    """Spec §2.8: each file's best passage leads, however long the other file is."""
    long = document(*needles(PAGES, (60, "云杉项目的预算是四百万元。")), name="long.pdf")
    short = document("铁杉项目的预算是三百万元。", name="short.docx")
    base = Scholar()

    await told(about("云杉项目和铁杉项目的预算各是多少？", long, short), base, long, short)

    assert "[long.pdf p." in base.prompts[-1]
    assert "四百万元" in base.prompts[-1]
    assert "铁杉项目的预算是三百万元" in base.prompts[-1]


async def test_neighbours_of_a_hit_come_along_in_the_documents_order() -> None:
    """An answer often begins a passage earlier than its words."""
    file = document(*needles(PAGES, (100, FACT)))
    base = Scholar()

    await told(about("云杉项目的启动口令是什么？", file), base, file)

    pages = [int(page) for page in re.findall(r"\[report\.pdf p\.(\d+)", base.prompts[-1])]
    assert pages == sorted(pages)
    assert {99, 100, 101} <= set(pages)


@pytest.mark.parametrize("window", [4096, 32_768, 65_536])
async def test_a_small_model_is_shown_the_nearest_sentences_once_more(window: int) -> None:
    """One sentence among a hundred that look alike is overlooked by half a billion parameters."""
    file = document(*needles(PAGES, (100, FACT)))
    base = Scholar(context_tokens=window)

    await told(about("云杉项目的启动口令是什么？", file), base, file)

    question = base.requests[-1].messages[-1].text
    assert question.count(FACT) == (2 if window <= 32_768 else 1)
    assert (f"- {FACT}（第100页）\n\n请根据" in question) == (window <= 32_768)


# --- nothing to answer from


@pytest.mark.parametrize(
    ("question", "said"),
    [("火星基地的氧气储量是多少？", "文件中没有提到"), ("Who founded the observatory?", "do not mention")],
)
async def test_a_question_that_the_file_does_not_answer_is_answered_so(question: str, said: str) -> None:
    """In the language of the question, and without a guess."""
    file = document(*(PAGES if "火星" in question else filler(200, chinese=False)))

    text, report = await told(about(question, file), Scholar(), file)

    assert said in text
    assert report.strategy == "nothing"


async def test_other_words_for_the_question_are_tried_before_giving_up() -> None:
    """A question may share no word with its answer, or be asked in another language."""
    file = document(*needles(filler(200, chinese=False), (90, "The spruce password is bluewhale.")))
    base = Scholar(replies=[lambda request: "spruce password" if "关键词" in request.messages[-1].text else None])

    text, report = await told(about("云杉的口令是什么？", file), base, file)

    assert "90" in text or "bluewhale" in base.prompts[-1]
    assert report.strategy == "passages"


async def test_an_answer_that_has_nothing_of_the_text_is_asked_for_again_and_then_refused() -> None:
    """A Chinese name is no claim that could be looked for, but it has to stand somewhere."""
    file = document("首页。", FACT)
    invents = Scholar(replies=[lambda _: "云杉项目的经理是李明。"])
    honest = iter(["云杉项目的经理是李明。", "文件中没有提到。"])
    learns = Scholar(replies=[lambda _: next(honest)])

    refused, report = await told(about("云杉项目的经理是谁？", file), invents, file)
    said, _ = await told(about("云杉项目的经理是谁？", file), learns, file)

    assert refused == said == "文件中没有提到。"
    assert (report.calls, report.asked_again) == (2, True)
    assert "云杉项目的经理是李明" in invents.prompts[1]


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        ("云杉项目有经理吗？", "没有，只有保管人。"),
        ("云杉项目的保管人姓什么？", "姓陆。"),
        ("What is the password of 云杉?", "It is Bluewhale 7431."),
        ("云杉项目的口令有多少位数字？", "四位。"),
    ],
)
async def test_an_answer_may_be_said_in_words_of_its_own(question: str, reply: str) -> None:
    """Whether, how many, in another language: what is to be decided or worked out stands nowhere."""
    file = document("首页。", FACT)
    base = Scholar(replies=[lambda _: reply])

    text, _ = await told(about(question, file), base, file)

    assert text.startswith(reply)


async def test_a_remark_that_asks_nothing_is_not_refused() -> None:
    """`Thank you` is in no document either."""
    file = document(*PAGES)
    base = Scholar(replies=[lambda _: "不客气。"])

    text, _ = await told(about("谢谢", file), base, file)

    assert text.startswith("不客气。")


# --- everything must be read


async def test_a_list_has_every_item_with_its_page() -> None:
    """Spec §2.8: recall of at least 95 %; what the model leaves out is added."""
    facts = [(7 + 60 * at, f"安全事故：{accident}。") for at, accident in enumerate(ACCIDENTS)]
    file = document(*needles(PAGES, *facts))
    forgetful = Scholar(replies=[lambda r: "只有一起。" if "不要遗漏" in r.messages[-1].text else None])

    whole, report = await told(about("列出文件中所有的安全事故", file), Scholar(), file)
    mended, _ = await told(about("列出文件中所有的安全事故", file), forgetful, file)

    for text in (whole, mended):
        for page, fact in facts:
            assert fact.rstrip("。") in text
            assert f"第{page}页" in text
    assert report.strategy == "parts"
    assert report.parts == report.parts_read


async def test_a_count_is_that_of_the_items_whatever_the_model_says() -> None:
    """Models cannot count, and a number that nothing backs does not leave."""
    facts = [(7 + 60 * at, f"安全事故：{accident}。") for at, accident in enumerate(ACCIDENTS)]
    file = document(*needles(PAGES, *facts))
    base = Scholar(replies=[lambda r: "共有17起。" if "不要遗漏" in r.messages[-1].text else None])

    text, _ = await told(about("文件中一共提到多少次安全事故？", file), base, file)

    assert "共 4 项" in text


async def test_a_word_is_counted_without_a_model() -> None:
    """How often a word stands in a text is no matter of opinion."""
    file = document(*needles(PAGES, (3, "灯塔、灯塔。"), (50, "灯塔。")))
    base = Scholar()

    text, report = await told(about("“灯塔”在文件中出现了几次？", file), base, file)

    assert "共出现 3 次" in text
    assert report.strategy == "table"
    assert report.calls == 1


async def test_a_table_is_counted_and_added_up_by_its_rows() -> None:
    """Spec §2.7: the parsed table is asked, not pieces of its text."""
    rows = [(f"A-{at:04d}", str(at), ["已付", "未付", "退款"][at % 3]) for at in range(500)]
    file = document(
        *(written(["编号", "金额", "状态"], rows[at : at + 100]) for at in range(0, 500, 100)), name="t.xlsx"
    )

    counted, report = await told(about("表中状态为退款的共有多少行？", file), Scholar(), file)
    added, _ = await told(about("状态为已付的金额合计是多少？", file), Scholar(), file)

    assert "166" in counted
    assert str(sum(range(0, 500, 3))) in added
    assert report.calls == 2


async def test_a_summary_reads_every_part_and_is_bounded_at_once() -> None:
    """All of the file, a few calls at a time."""
    file = document(*PAGES)
    base = Scholar()

    _, report = await told(about("总结这份文件", file), base, file)

    assert report.parts == report.parts_read == report.calls - 1
    assert 1 < base.most_at_once <= 4
    assert report.pages[0].pages == ("1-200",)


async def test_more_parts_than_may_be_read_are_read_evenly_and_the_answer_is_told_so() -> None:
    """A file of ten million tokens on a small machine must come to an end."""
    file = document(*PAGES)
    base = Scholar()

    _, report = await told(about("总结这份文件", file), base, file, by=recipe(most_calls=5))

    assert report.parts_read == 5 < report.parts
    assert f"5/{report.parts}" in base.prompts[-1]
    read = [int(match[1]) for prompt in base.prompts[:-1] if (match := re.search(r"p\.(\d+)", prompt))]
    assert min(read) == 1
    assert max(read) > 180


async def test_for_a_list_the_parts_that_were_found_are_among_those_that_are_read() -> None:
    """An even sample would miss the only page that matters."""
    file = document(*needles(PAGES, (33, "安全事故：三号仓库在2019年起火。")))

    text, report = await told(about("列出文件中所有的安全事故", file), Scholar(), file, by=recipe(most_calls=4))

    assert report.parts_read == 4
    assert "第33页" in text


async def test_reading_ends_in_time_with_parts_from_everywhere() -> None:
    """An unstreamed call has a limit; half of a file's beginning would be a worse sample than some of all of it."""
    file = document(*PAGES)
    clock = Clock()

    def slow(_request: ChatRequest) -> str | None:
        clock.now += 40.0
        return None

    base = Scholar(replies=[slow])
    _, report = await told(about("总结这份文件", file), base, file, by=recipe(clock=clock))

    assert 3 < report.parts_read < 12
    first = [int(match[1]) for prompt in base.prompts[:3] if (match := re.search(r"p\.(\d+)", prompt))]
    assert first[0] == 1
    assert first[1] > 180
    assert 80 < first[2] < 120


async def test_the_same_question_finds_its_notes_again() -> None:
    """Asking twice must not read a book twice; another question has other notes."""
    file = document(*PAGES)
    by = recipe()
    base = Scholar()

    _, first = await told(about("总结文件中关于水泵的记录", file), base, file, by=by)
    _, again = await told(about("总结文件中关于水泵的记录", file), base, file, by=by)
    _, other = await told(about("总结文件中关于电梯的记录", file), base, file, by=by)

    assert (again.calls, other.calls) == (1, first.calls)
    assert file.kept == {}, "what a caller asked is no note that stays with the file"


@pytest.mark.parametrize("chinese", [True, False])
async def test_the_whole_is_read_once_for_questions_of_any_wording(chinese: bool) -> None:
    """The notes of parts do not depend on how a summary is asked for, and outlive the process that made them."""
    file = document(*filler(200, chinese=chinese))
    base = Scholar()

    _, first = await told(about("总结这份文件", file), base, file)
    notes = [prompt for prompt in base.prompts if "概括全文" in prompt or "summed up later" in prompt]
    later = [
        (await told(about(question, file), base, file, by=recipe()))[1]
        for question in (
            "请用三百字概括全文的主要内容",
            "What is this document about?",
            "Summarize it in 5 bullet points.",
        )
    ]

    assert first.calls == len(notes) + 1 > 10
    assert [report.calls for report in later] == [1, 1, 1]
    assert all(report.parts_read == report.parts == first.parts for report in later)
    assert all(("概括全文" in prompt) == chinese for prompt in notes), "notes are in the language of the document"


async def test_notes_that_stay_say_neither_what_a_file_is_called_nor_what_was_asked() -> None:
    """Another workspace may have the same bytes, and finds the notes."""
    mine, theirs = document(*PAGES, name="merger.pdf"), document(*PAGES, name="b.pdf")
    theirs.kept = mine.kept
    base, other = Scholar(), Scholar()

    await told(asked(("system", "我是甲方"), ("system", f"fileid://{mine.id}"), ("user", "总结一下")), base, mine)
    _, report = await told(about("总结这份文件", theirs), other, theirs)

    notes = base.prompts[:-1]
    assert notes
    assert not any(word in prompt for prompt in notes for word in ("merger", "甲方", "总结一下"))
    assert "merger.pdf p.1" in base.prompts[-1]
    assert report.calls == 1


async def test_each_base_model_has_its_own_notes() -> None:
    """What a small model noted must not stand in for what a large one would."""
    file = document(*PAGES)

    _, small = await told(about("总结这份文件", file), Scholar(), file)
    _, large = await told(about("总结这份文件", file), Scholar(fingerprint="large"), file)
    _, wider = await told(about("总结这份文件", file), Scholar(context_tokens=16_384), file)

    assert small.calls == large.calls > 20
    assert wider.calls > 5


async def test_a_reading_that_was_broken_off_goes_on_where_it_was() -> None:
    """Each note is kept as it is made: whoever hangs up, or is killed, has not waited for nothing."""
    file = document(*PAGES)
    clock = Clock()

    def slow(_request: ChatRequest) -> str | None:
        clock.now += 40.0
        return None

    _, first = await told(about("总结这份文件", file), Scholar(replies=[slow]), file, by=recipe(clock=clock))
    _, second = await told(about("概括这份文件", file), Scholar(), file)

    assert second.parts_read == second.parts > first.parts_read
    assert second.calls == second.parts - first.parts_read + 1


async def test_merged_notes_of_a_document_stay_with_it_too() -> None:
    """Where the notes do not fit a window, merging them is most of what a second question would cost."""
    file, short = document(*filler(400), name="long.pdf"), document("云杉项目于三月启动。", name="short.txt")
    notes = "要点：一切正常（第1页）。" * 40

    def long_notes(request: ChatRequest) -> str | None:
        return notes if "概括全文" in request.messages[-1].text else None

    base, again = Scholar(context_tokens=4096, replies=[long_notes]), Scholar(context_tokens=4096)
    _, first = await told(about("总结这两份文件", file, short), base, file, short)
    _, second = await told(about("这些文件讲了什么？", file, short), again, file, short)

    assert first.calls > first.parts_read + 1, "the notes had to be merged"
    assert (second.calls, second.parts_read) == (1, first.parts_read)


# --- what leaves


async def test_an_answer_without_a_page_gets_its_source() -> None:
    """A reader wants to look it up, whatever the model forgot."""
    file = document(*needles(PAGES, (42, FACT)))
    base = Scholar(replies=[lambda _: "口令是蓝鲸7431，由陆明远保管。"])

    text, _ = await told(about("云杉项目的启动口令是什么？", file), base, file)

    assert text == "口令是蓝鲸7431，由陆明远保管。（第42页）"


async def test_the_source_of_several_files_names_the_file() -> None:
    """A page without its file is no place."""
    one, two = document(*filler(3), name="a.pdf"), document("空。", FACT, name="b.pdf")
    base = Scholar(replies=[lambda _: "口令是蓝鲸7431，由陆明远保管。"])

    text, _ = await told(about("云杉项目的启动口令是什么？", one, two), base, one, two)

    assert text.endswith("（b.pdf，第2页）")


async def test_a_number_that_stands_nowhere_is_asked_for_again() -> None:
    """Spec §2.7: regenerate with the offending claim named. What had left before it stays."""
    file = document("首页。", FACT)
    replies = iter(["口令是蓝鲸7439，由陆明远保管。", "蓝鲸7431，由陆明远保管。"])
    base = Scholar(replies=[lambda _: next(replies)])

    text, report = await told(about("云杉项目的启动口令是什么？", file), base, file)

    assert text == "口令是蓝鲸蓝鲸7431，由陆明远保管。（第2页）"
    assert report.asked_again
    second = base.requests[1]
    assert second.partial
    assert second.messages[-1] == Message("assistant", "口令是蓝鲸")
    assert "7439" in second.messages[-2].text


async def test_a_second_wrong_number_is_said_so_at_the_end() -> None:
    """An answer comes to an end, and nobody is left to believe it."""
    file = document("首页。", FACT)
    base = Scholar(replies=[lambda _: "口令是7439。"])

    text, report = await told(about("云杉项目的启动口令是什么？", file), base, file)

    assert "找不到“7439”" in text
    assert report.unbacked == ("7439",)
    assert report.calls == 2


async def test_a_base_that_cannot_continue_is_asked_again_only_where_nothing_has_left() -> None:
    """The rest of a sentence cannot be asked for there."""
    file = document("首页。", FACT)
    early = iter(["7439是口令。", "口令是蓝鲸7431。"])
    base = Scholar(can_continue=False, replies=[lambda _: next(early)])
    late = Scholar(can_continue=False, replies=[lambda _: "口令是7439。"])

    text, _ = await told(about("云杉项目的启动口令是什么？", file), base, file)
    said, report = await told(about("云杉项目的启动口令是什么？", file), late, file)

    assert text.startswith("口令是蓝鲸7431。")
    assert "找不到“7439”" in said
    assert report.calls == 1


async def test_a_page_that_was_not_read_is_never_named() -> None:
    """A wrong page is worse than none: the source is found by code then."""
    file = document(*needles(PAGES, (42, FACT)))
    base = Scholar(replies=[lambda _: "口令是蓝鲸7431（第3页）。"])

    text, _ = await told(about("云杉项目的启动口令是什么？", file), base, file)

    assert "第3页" not in text
    assert text.endswith("（第42页）")


async def test_the_answer_is_streamed_as_it_comes() -> None:
    """The first words leave before the last are written."""
    file = document("首页。", FACT)
    gate = asyncio.Event()

    class Slow(Scholar):
        async def stream(self, request: ChatRequest) -> Any:
            yield [Event(text="口令由陆明远")]
            await gate.wait()
            yield [Event(text="保管。"), Event(finish_reason="stop")]

    events = recipe().run(about("启动口令由谁保管？", file), desk(Slow(), file))
    first = [event async for burst in _until_text(events) for event in burst]
    gate.set()
    rest = [event async for burst in events for event in burst]

    assert "".join(event.text for event in first) == "口令由陆明远"
    assert "".join(event.text for event in rest).startswith("保管。")


async def test_leaving_early_stops_the_base_model() -> None:
    """What nobody reads is not generated."""
    file = document("首页。", FACT)
    closed = asyncio.Event()

    class Endless(Scholar):
        async def stream(self, request: ChatRequest) -> Any:
            try:
                while True:
                    yield [Event(text="口令")]
                    await asyncio.sleep(0)
            finally:
                closed.set()

    events = recipe().run(about("启动口令由谁保管？", file), desk(Endless(), file))
    async for _ in _until_text(events):
        pass
    await events.aclose()

    assert closed.is_set()


async def test_a_shape_is_passed_on_and_nothing_is_added_to_json() -> None:
    """`response_format` works, and a source line would break it."""
    file = document(*needles(PAGES, (42, FACT)))
    shape = Shape("json_object")
    base = Scholar(replies=[lambda request: '{"口令": "蓝鲸7431"}' if request.shape == shape else None])

    text, _ = await told(about("以 JSON 回答：云杉项目的启动口令是什么？", file, shape=shape), base, file)

    assert text == '{"口令": "蓝鲸7431"}'


async def test_an_answer_that_is_cut_says_so_and_gets_no_source() -> None:
    """What was cut is not the end of the answer."""
    file = document("首页。", FACT)
    base = Scholar(replies=[lambda _: "口令由陆明远保管，" * 50])

    events = await events_of(
        recipe(), about("启动口令由谁保管？", file, sampling=Sampling(max_tokens=20)), base, library(file)
    )

    result = fold(events)
    assert result.choices[0].finish_reason == "length"
    assert "第2页" not in result.choices[0].text


# --- what is counted, and refused


async def test_usage_counts_all_of_every_file_and_the_visible_answer() -> None:
    """Spec §2.4: clients budget by it. What was really read is in the report."""
    file = document(*needles(PAGES, (42, FACT)))

    events = await events_of(recipe(), about("云杉项目的启动口令是什么？", file), Scholar(), library(file))

    usage = fold(events).usage
    assert file.tokens < usage.prompt < file.tokens + 120
    assert 10 < usage.completion < 60
    kinds = [("report" if e.report else "finish" if e.finish_reason else "usage") for e in events[-3:]]
    assert kinds == ["report", "finish", "usage"]


async def test_files_beyond_the_models_limit_are_refused() -> None:
    """Spec §2.5."""
    file = document(*PAGES)
    small = model("qwen-long", max_input_tokens=1000)

    with pytest.raises(InvalidRequest, match=r"Total message token length exceed model limit \(1000 tokens\)\."):
        await events_of(recipe(), about("总结", file), Scholar(), library(file), model=small)


async def test_what_a_library_refuses_is_refused_before_anything_is_asked() -> None:
    """The contract's errors of files come with their own status."""
    base = Scholar()

    with pytest.raises(HanlinError, match="Invalid file"):
        await events_of(recipe(), about("总结", document("x", id="unknown")), base, library())

    assert base.requests == []


async def test_no_prompt_is_larger_than_the_window_whatever_the_documents_are() -> None:
    """The base model refuses what does not fit; the fake one does as well."""
    odd = document(*(f"{'长' * size}。{FACT}" for size in (10, 30_000, 500, 9_000)), "", "x" * 20_000)
    for question in ("云杉项目的启动口令是什么？", "总结这份文件", "列出所有的口令", "What is the password?"):
        for window in (1024, 2048, 8192, 32_768):
            base = Scholar(context_tokens=window)
            await told(about(question, odd), base, odd)


async def test_a_long_dialogue_loses_its_oldest_turns_and_not_its_documents() -> None:
    """Two hundred turns would leave no room for what the question is about."""
    file = document(*needles(PAGES, (42, FACT)))
    turns = [("user" if at % 2 == 0 else "assistant", f"第{at}轮：" + "闲聊。" * 40) for at in range(200)]
    request = asked(("system", "r"), ("system", f"fileid://{file.id}"), *turns, ("user", "云杉项目的启动口令是什么？"))
    base = Scholar(context_tokens=4096)

    text, _ = await told(request, base, file)

    assert "蓝鲸7431" in text


def desk(base: Scholar, *files: MemoryDocument) -> Any:
    return Desk(model("qwen-long", max_output_tokens=8192), base, library(*files))


async def _until_text(events: Any) -> Any:
    async for burst in events:
        yield burst
        if any(event.text for event in burst):
            return


def test_the_recipe_is_named_as_rows_of_the_catalogue_name_it() -> None:
    """A row with another name would be a chat model that knows no files."""
    assert (LONG_DOCUMENTS.name, LONG_DOCUMENTS.reads_documents) == ("long-documents", True)
