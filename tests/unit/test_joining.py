"""Questions whose facts stand apart: what is found names what to look for next."""

from collections.abc import Sequence

import pytest

from hanlin.documents.coverage import Coverage
from hanlin.documents.questions import asks_barely, joins
from hanlin.documents.values import Passage
from hanlin.recipes.long_documents.finding import Hit, in_turns
from hanlin.recipes.long_documents.joining import MOST_ROUNDS, Round, joined, links_of, still_wanted, wanted
from hanlin.types import ChatRequest
from tests.documents import MemoryDocument, Scholar, about, document, filler, needles
from tests.needles import table
from tests.unit.test_long_documents import told

DEPARTMENTS = "海港 山林 铁路 邮电 水利 粮食 纺织 化工 冶金 渔业 盐务 茶叶".split()  # noqa: SIM905
UNITS = "Harbour Forest Railway Post Water Grain Textile Chemical Metal Fishery Salt Tea".split()  # noqa: SIM905
LEADERS = "Ada Bruno Clara Dario Elena Fabio Greta Hugo Irene Jonas Karla Luca".split()  # noqa: SIM905


def staff() -> MemoryDocument:
    """Return who leads what, each on a page of its own among a hundred others."""
    names = "李伟 张敏 王芳 赵磊 陈静 杨帆 黄蓉 周涛 吴倩 徐强 孙丽 胡军".split()  # noqa: SIM905
    facts = [(3 + 8 * at, f"{name}领导{DEPARTMENTS[at]}部。") for at, name in enumerate(names)]
    return document(*needles(filler(100), *facts), name="人员.pdf")


def budgets() -> MemoryDocument:
    """Return what each may spend, in another file that names no person."""
    facts = [(5 + 8 * at, f"{name}部的预算是{at + 3}21万元。") for at, name in enumerate(DEPARTMENTS)]
    return document(*needles(filler(100), *facts), name="预算.pdf")


def english() -> tuple[MemoryDocument, MemoryDocument]:
    led = [
        (3 + 8 * at, f"{name} Novak leads the {unit} department.")
        for at, (name, unit) in enumerate(zip(LEADERS, UNITS, strict=True))
    ]
    paid = [
        (5 + 8 * at, f"The budget of the {unit} department is {at + 3}210 crowns.") for at, unit in enumerate(UNITS)
    ]
    pages = filler(100, chinese=False)
    return document(*needles(pages, *led), name="staff.pdf"), document(*needles(pages, *paid), name="budgets.pdf")


def is_link(request: ChatRequest) -> bool:
    return "没有说出它的名称" in request.messages[-1].text or "without naming it" in request.messages[-1].text


def asked_for_links(base: Scholar) -> int:
    return sum(map(is_link, base.requests))


# --- over documents


async def test_facts_of_two_files_that_share_no_word_with_each_others_question_are_joined() -> None:
    """Spec §2.7 (4): who leads what stands in one file, what it may spend in another, among eleven that look alike."""
    one, two = staff(), budgets()
    base = Scholar()

    _, report = await told(about("李伟领导的部门的预算是多少？", one, two), base, one, two)

    material = base.prompts[-1]
    assert "李伟领导海港部" in material
    assert "海港部的预算是321万元" in material
    assert (report.searches, asked_for_links(base), report.calls) == (2, 1, 2)


async def test_the_same_in_english() -> None:
    """The form of a question is another in each language; the rest is not."""
    one, two = english()
    base = Scholar()

    _, report = await told(
        about("What is the budget of the department that Greta Novak leads?", one, two), base, one, two
    )

    material = base.prompts[-1]
    assert "Greta Novak leads the Textile department" in material
    assert "The budget of the Textile department is 9210 crowns" in material
    assert (report.searches, asked_for_links(base), report.calls) == (2, 1, 2)


async def test_the_sentences_of_both_facts_lead_a_small_models_question() -> None:
    """One sentence among a hundred that look alike is overlooked; the second fact shares no name with the question."""
    one, two = staff(), budgets()
    base = Scholar(context_tokens=8192)

    await told(about("李伟领导的部门的预算是多少？", one, two), base, one, two)

    led = base.requests[-1].messages[-1].text.rsplit("其中与问题最接近的句子：", 1)[1]
    assert "李伟领导海港部" in led
    assert "海港部的预算是321万元" in led


async def test_three_facts_are_joined_in_three_searches_and_no_more() -> None:
    """Each link leads to the next; what a link needs is in the passages that it was found in."""
    facts = [(4, "李伟领导海港部。"), (40, "海港部的主管是王芳。"), (90, "王芳的电话是5520817。")]
    others = [(8 + 9 * at, f"{name}部的主管和电话见通讯录。") for at, name in enumerate(DEPARTMENTS[1:10])]
    file = document(*needles(filler(100), *facts, *others))
    said = iter(["李伟领导的部门是海港部。", "海港部的主管是王芳。"])
    base = Scholar(replies=[lambda request: next(said) if is_link(request) else None])

    _, report = await told(about("李伟领导的部门的主管的电话是多少？", file), base, file)

    assert all(fact in base.prompts[-1] for _, fact in facts)
    assert (report.searches, report.calls) == (MOST_ROUNDS, 3)
    assert "海港部。" in base.prompts[1], "the second link is read with the first"


@pytest.mark.parametrize("said", ["无", "none", "某个部门。", "李伟领导的部门。", "李伟领导银河部。", ""])
async def test_a_link_that_the_passages_do_not_give_leads_nowhere(said: str) -> None:
    """A model that makes a name up must not send the search astray: the answer is made of what was found first."""
    file = staff()
    base = Scholar(replies=[lambda request: said if is_link(request) else None])

    _, report = await told(about("李伟领导的部门在哪里办公？", file), base, file)

    assert (report.searches, asked_for_links(base)) == (0, 1)


@pytest.mark.parametrize(
    "question",
    [
        "李伟领导哪个部门？",
        "海港部的预算是多少？",
        "谁领导海港部？",
        "Who leads the Harbour department?",
        "What is the budget of the Harbour department?",
        "Which department does Ada Novak lead?",
    ],
)
async def test_a_question_that_one_fact_answers_costs_no_further_call(question: str) -> None:
    """Most questions are of this kind, and a call more is a second more."""
    files = (staff(), budgets()) if "部" in question else english()
    base = Scholar()

    _, report = await told(about(question, *files), base, *files)

    assert (report.strategy, report.calls, report.searches) == ("passages", 1, 0)


async def test_a_sentence_that_says_both_facts_needs_no_further_call() -> None:
    """The form of a question does not say how its answer is told."""
    file = document(*needles(filler(100), (50, "李伟领导的部门的预算是321万元。"), (70, "各部门的预算由财务部审核。")))
    base = Scholar()

    text, report = await told(about("李伟领导的部门的预算是多少？", file), base, file)

    assert "321万元" in text
    assert (report.calls, report.searches) == (1, 0)


async def test_a_question_about_nothing_in_the_file_is_refused_as_before() -> None:
    """Where the first search finds nothing there is no link to ask for."""
    file = document(*filler(200))
    base = Scholar()

    text, report = await told(about("火星基地站长领导的氧气小组的储量是多少？", file), base, file)

    assert "没有提到" in text
    assert report.strategy == "nothing"
    assert not asked_for_links(base)


async def test_no_prompt_of_a_link_is_larger_than_the_window() -> None:
    """The base model refuses what does not fit; the fake one does as well."""
    one = document(*(f"{'长' * size}。李伟领导海港部。" for size in (10, 30_000, 500)), "海港部的预算是321万元。" * 900)
    for window in (1024, 2048, 8192):
        await told(about("李伟领导的部门的预算是多少？", one), Scholar(context_tokens=window), one)


# --- what decides


@pytest.mark.parametrize(
    ("question", "does"),
    [
        ("李伟领导的部门的预算是多少？", True),
        ("李伟所在部门的预算是多少？", True),
        ("云杉项目负责人的电话是多少？", True),
        ("What is the budget of the department that Li Wei leads?", True),
        ("What is the budget of the department Li Wei leads?", True),
        ("How many people work in the office led by Li Wei?", True),
        ("What is the budget of Li Wei’s department?", True),
        ("Where was the founder of Spruce Ltd born?", True),
        ("云杉项目的启动口令是什么？", False),
        ("剧本是谁写的？", False),
        ("What is the password of the Spruce project?", False),
        ("Who keeps the password?", False),
        ("的" * 50_000, False),
        ("the a that " * 50_000, False),
    ],
)
def test_the_form_of_a_question_says_whether_it_speaks_of_what_it_does_not_name(question: str, does: bool) -> None:
    """By words alone: a model is not asked, and a text of any length is no burden."""
    assert joins(question) == does


def test_few_questions_for_one_fact_have_that_form() -> None:
    """A hundred of them, worded otherwise than their facts; the second condition is what was found."""
    assert sum(joins(needle.question) for needle in table().needle) <= 10


def test_who_and_where_and_when_leave_open_what_the_answer_is() -> None:
    """There is no word that could be missing beside what was found."""
    assert asks_barely("李伟领导的部门在哪里？")
    assert asks_barely("Where is it?")
    assert not asks_barely("预算是多少？")


def test_only_what_was_found_without_what_is_asked_leads_on() -> None:
    """Nothing at all was found, or all of it: neither calls for a second search."""
    question = "李伟领导的部门的预算是多少？"

    assert wanted(question, Coverage("covered", 0.9, 1.0, apart=("预算",))) == ("预算",)
    assert wanted(question, Coverage("covered", 1.0, 1.0)) is None
    assert wanted(question, Coverage("absent", 0.1, 0.2, apart=("预算",))) is None
    assert wanted("云杉项目的启动口令是什么？", Coverage("unsure", 0.6, 0.9, apart=("启动",))) is None
    assert wanted("李伟领导的部门在哪里？", Coverage("covered", 1.0, 1.0)) == ()


def test_a_further_search_is_for_what_the_last_one_left_and_only_after_progress() -> None:
    """A search that brought nothing of what was wanted would bring nothing the next time."""
    assert still_wanted(("主管", "电话"), Coverage("unsure", 0.7, 0.9, apart=("电话",))) == ["电话"]
    assert still_wanted(("主管", "电话"), Coverage("unsure", 0.7, 0.9, apart=("主管", "电话"))) is None
    assert still_wanted(("主管电话",), Coverage("unsure", 0.7, 0.9, apart=("电话",))) == ["电话"]
    assert still_wanted(("预算",), Coverage("covered", 1.0, 1.0)) is None


def test_a_link_is_made_of_new_words_that_stand_in_what_was_read() -> None:
    """In their order; what the question says already leads back to where one was."""
    text = "[人员.pdf p.3]\n李伟领导海港部。"

    assert links_of("李伟领导的是海港部（第3页）。", "李伟领导的部门的预算是多少？", text) == ("海港", "港部")
    assert links_of("Li Wei leads the Harbour office", "the budget of Li Wei", "Harbour: Li Wei leads") == (
        "lead",
        "harbour",
    )
    assert links_of("李伟领导银河部", "李伟领导的部门的预算是多少？", text) == ()
    assert links_of("None.", "none?", "none") == ()
    assert links_of("第1" + ",1" * 100_000, "", "1 " * 1000) == ("1",)
    assert len(links_of(" ".join(f"w{at}" for at in range(5000)), "", " ".join(f"w{at}" for at in range(5000)))) == 24


async def test_searches_end_whatever_a_model_says() -> None:
    """One that always finds a new name must not go on for ever."""
    sought: list[str] = []

    async def search(one: str) -> Round:
        sought.append(one)
        left = ("a", "b", "c", "d")[len(sought) :]
        return Round(one, [], Coverage("unsure", 0.5, 0.5, apart=left))

    async def link(_of: Round, known: Sequence[str]) -> tuple[str, str]:
        return f"name{len(known)}", f"name{len(known)}"

    first = Round("", [], Coverage("unsure", 0.5, 0.5, apart=("a", "b", "c", "d")))
    rounds = await joined(first, "李伟领导的部门的主管的电话是多少？", search, link)

    assert len(rounds) == MOST_ROUNDS
    assert sought == ["name0 a b c d", "name1 b c d"]


def test_the_best_of_each_search_comes_ahead_of_the_second_best() -> None:
    """A budget that ends must not leave out the fact that everything hangs on."""
    file = document("1", "2", "3", "4")
    one, two, three, four = (Hit(file, Passage(at, at + 1, at + 1, "", ""), 1.0) for at in range(4))

    assert in_turns([[one, two, three], [four, one]]) == [one, four, two, three]
    assert in_turns([[one, two]]) == [one, two]
