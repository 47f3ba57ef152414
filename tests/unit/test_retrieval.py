"""Passages that answer a question are found: by words, by vectors as far as there are any, in one document or many."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanlin.documents.coverage import coverage
from hanlin.documents.indexing import INDEX, index
from hanlin.documents.questions import kind_of
from hanlin.documents.ranking import fused
from hanlin.documents.retrieval import IndexedDocument, covered, search_all
from hanlin.documents.shelf import PAGES, write_pages
from hanlin.documents.values import Page, Passage
from hanlin.documents.vectors import embed, embedded
from hanlin.types import Vector

ZH = [
    "退货政策\n\n自签收之日起七天内，商品未经使用的，买家可以申请无理由退货，运费由买家承担。",
    "发票说明\n\n订单完成后三十天内可以在个人中心开具电子发票，抬头一经提交不可修改。",
    "配送范围\n\n除西藏和新疆的部分县区外，全国均可送达，一般需要三到五个工作日。",
    "会员等级\n\n累计消费满五千元升为金卡会员，享受九五折优惠和生日礼券。",
    "售后维修\n\n整机保修两年，电池保修一年，人为损坏不在保修范围之内。",
    "支付方式\n\n支持银行卡、支付宝与货到付款，分期付款最多十二期。",
]
EN = [
    "Returns\n\nUnused goods can be sent back within thirty days of delivery; the customer pays the postage.",
    "Invoices\n\nAn electronic invoice can be downloaded from the account page for ninety days.",
    "Shipping\n\nParcels reach all states within five working days, except Alaska and Hawaii.",
    "Membership\n\nGold members have spent five hundred dollars and enjoy a discount of five percent.",
    "Warranty\n\nThe device is covered for two years, its battery for one; damage by water is excluded.",
    "Payment\n\nCredit cards and bank transfers are accepted; instalments run over twelve months at most.",
]
FILLING = "这一段与所问无关，只是用来把各部分隔开。" * 24


def document(folder: Path, texts: Sequence[str], name: str = "手册.txt") -> IndexedDocument:
    folder.mkdir(exist_ok=True)
    write_pages(folder, [Page(number, text) for number, text in enumerate(texts, 1)])
    index(folder)
    return IndexedDocument(folder, id=folder.name, name=name, digest="", pages=len(texts), tokens=0)


def apart(texts: Sequence[str]) -> list[str]:
    """Return texts as sections of their own: each begins with a heading and is long enough for a passage."""
    return [f"# {text}\n\n{FILLING}" for text in texts]


@pytest.mark.parametrize(
    ("question", "page"),
    [
        ("东西买来不想要了，几天之内可以退货？", 1),
        ("怎样开发票？", 2),
        ("新疆能送到吗？", 3),
        ("成为金卡会员要消费多少？", 4),
        ("电池保修多久？", 5),
        ("可以分期吗？", 6),
        ("How do I send goods back?", 7),
        ("Where can I get my invoice?", 8),
        ("Do you ship to Hawaii?", 9),
        ("What discount does a gold member get?", 10),
        ("Is water damage covered?", 11),
        ("Which cards do you accept?", 12),
    ],
)
async def test_the_passage_that_answers_comes_first(tmp_path: Path, question: str, page: int) -> None:
    """In both languages, in one document."""
    texts = document(tmp_path / "a", apart([*ZH, *EN]))

    found = await texts.search(question, 3)

    assert found[0].passage.first_page <= page <= found[0].passage.last_page
    assert [one.score for one in found] == sorted([one.score for one in found], reverse=True)


async def test_a_question_of_stop_words_finds_nothing(tmp_path: Path) -> None:
    """Anything would be a lie."""
    assert await document(tmp_path / "a", ZH).search("这是什么？", 3) == []


async def test_pages_passages_and_neighbours_are_read(tmp_path: Path) -> None:
    """What stands around a passage often explains it."""
    texts = document(tmp_path / "a", apart(ZH))

    everything = await texts.passages()
    around = await texts.around(everything[2])

    assert [page.number for page in await texts.read(2, 3)] == [2, 3]
    assert [passage.number for passage in everything] == list(range(len(everything)))
    assert [passage.number for passage in around] == [1, 2, 3]
    assert await texts.around(everything[0], before=3, after=0) == everything[:1]


@pytest.mark.parametrize("damage", ["missing", "damaged", "old"])
async def test_an_index_that_is_unusable_is_made_again(tmp_path: Path, damage: str) -> None:
    """The pages are there: nobody has to upload anything a second time."""
    texts = document(tmp_path / "a", apart(ZH))
    path = texts.folder / INDEX
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"damaged" * 999 if damage == "damaged" else path.read_bytes().replace(b"Hanl", b"Old!", 1))

    found = await asyncio.gather(*[texts.search("怎样开发票？", 1) for _ in range(4)])

    assert all("电子发票" in one[0].passage.text for one in found)


async def test_a_document_that_is_deleted_is_gone(tmp_path: Path) -> None:
    """An open file must not go on answering."""
    texts = document(tmp_path / "a", ZH)
    await texts.search("发票", 1)
    (texts.folder / INDEX).unlink()
    (texts.folder / PAGES).unlink()

    with pytest.raises(FileNotFoundError):
        await texts.search("发票", 1)


# Ranks


def test_reciprocal_ranks_are_added() -> None:
    """What both orders have comes before what one of them has first."""
    assert list(fused([["a", "b", "c"], ["d", "b"]])) == ["b", "a", "d", "c"]
    assert fused([["a"], ["a"]])["a"] == pytest.approx(2 / 61)
    assert list(fused([["a"], ["b"]], [1.0, 0.5])) == ["a", "b"]


def test_what_leads_one_order_is_not_lost_among_what_both_have() -> None:
    """A fact in a passage about other things is found by its words, and by nothing else."""
    words, vectors = [0, *range(1, 50)], list(range(1, 51))

    assert list(fused([words, vectors])).index(0) == 49
    assert list(fused([words, vectors], leading=[3, 2])).index(0) < 4


@given(st.lists(st.lists(st.integers(0, 20), unique=True), min_size=1, max_size=4))
def test_fusing_keeps_what_was_ranked_and_agrees_with_unanimity(ranks: list[list[int]]) -> None:
    """What every order has before another stays before it."""
    order = list(fused(ranks))

    assert set(order) == {one for rank in ranks for one in rank}
    for one in order:
        for other in order:
            if one != other and all(
                one in rank and (other not in rank or rank.index(one) < rank.index(other)) for rank in ranks
            ):
                assert order.index(one) < order.index(other)


# Vectors


class Meaning:
    """Makes vectors: a text about money points along the first axis, one about time along the second."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, texts: Sequence[str]) -> Sequence[Vector]:
        await self.gate.wait()
        self.texts += texts
        return [[1.0, 0.0] if "发票" in text else [0.0, 1.0] for text in texts]


async def test_vectors_find_what_shares_no_word(tmp_path: Path) -> None:
    """That is what they are for."""
    texts = document(tmp_path / "a", apart(ZH))
    await embed(texts.folder, Meaning(), "m")

    found = await texts.search("receipt", 1, [1.0, 0.0])

    assert "发票" in found[0].passage.text


async def test_a_search_works_before_while_and_after_vectors_are_made(tmp_path: Path) -> None:
    """Two thousand pages have none for a quarter of an hour."""
    texts = document(tmp_path / "a", apart(ZH))
    count = await texts.count()

    before = await texts.search("发票", 3, [1.0, 0.0])
    await embed(texts.folder, Meaning(), "m", most=2)
    during = await texts.search("发票", 3, [1.0, 0.0])
    await embed(texts.folder, Meaning(), "m")
    after = await texts.search("发票", 3, [1.0, 0.0])

    assert {"发票" in found[0].passage.text for found in (before, during, after)} == {True}
    assert embedded(texts.folder) == count


async def test_vectors_go_on_where_they_were_ended(tmp_path: Path) -> None:
    """A service that ends must not begin anew each time it starts."""
    texts = document(tmp_path / "a", apart(ZH))
    count, meaning = await texts.count(), Meaning()
    turns, third = 0, asyncio.Event()

    async def turn() -> None:
        nonlocal turns
        turns += 1
        if turns == 3:
            meaning.gate.clear()
            third.set()

    job = asyncio.create_task(embed(texts.folder, meaning, "m", batch=1, turn=turn))
    await third.wait()
    job.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await job
    meaning.gate.set()
    added = await embed(texts.folder, meaning, "m")

    assert added == count - 2
    assert len(meaning.texts) == count


async def test_without_anything_that_makes_vectors_there_are_none(tmp_path: Path) -> None:
    """Not an error: most installations have no such model."""

    async def nothing(_texts: Sequence[str]) -> None:
        return None

    texts = document(tmp_path / "a", ZH)

    assert await embed(texts.folder, nothing, "m") == 0
    assert embedded(texts.folder) == 0


async def test_a_vector_of_another_length_is_left_out(tmp_path: Path) -> None:
    """The model was changed: words still find."""
    texts = document(tmp_path / "a", apart(ZH))
    await embed(texts.folder, Meaning(), "m")

    found = await texts.search("发票", 1, [1.0, 0.0, 0.0])

    assert "发票" in found[0].passage.text


# Several documents


async def test_the_document_that_answers_comes_first(tmp_path: Path) -> None:
    """Every document has a best passage, and most of them are of no use."""
    documents = [
        document(tmp_path / str(n), apart([f"第{n}分册\n\n本分册说明第{n}号设备的操作。"]), f"分册{n}.pdf")
        for n in range(30)
    ]
    documents[23] = document(tmp_path / "z", apart(ZH), "售后手册.pdf")

    found = await search_all(documents, "设备的整机和电池各保修几年？", 5)

    assert len(found) == 5
    assert found[0][0] is documents[23]
    assert "保修" in found[0][1].passage.text


async def test_a_document_can_be_asked_for_by_its_name(tmp_path: Path) -> None:
    """Contracts of one house have the same sentences, and differ by the name of their file."""
    texts = apart(["违约金\n\n逾期付款的，按日加收万分之五。"])
    documents = [document(tmp_path / name, texts, f"{name}合同.pdf") for name in ("租赁", "采购", "运输")]

    found = await search_all(documents, "采购合同的违约金是多少", 3)

    assert found[0][0].name == "采购合同.pdf"


# Coverage and kinds of questions


async def test_what_a_document_does_not_speak_of_is_said_to_be_absent(tmp_path: Path) -> None:
    """A small model would make something up."""
    texts = document(tmp_path / "a", apart([*ZH, *EN]))

    async def judged(question: str) -> str:
        passages = [found.passage for found in await texts.search(question, 5)]
        return (await covered([texts], question, passages)).judgement

    assert await judged("电池保修多久？") != "absent"
    assert await judged("What discount do gold members enjoy?") != "absent"
    assert await judged("董事长毕业于哪所大学？") == "absent"
    assert await judged("Which university did the chairman attend?") == "absent"


async def test_several_documents_are_judged_together(tmp_path: Path) -> None:
    """A word that one of them has is not unknown."""
    documents = [document(tmp_path / "a", apart(ZH)), document(tmp_path / "b", apart(EN))]
    question = "电池保修多久？ Is water damage covered?"
    found = [found.passage for _document, found in await search_all(documents, question, 5)]

    together, alone = await covered(documents, question, found), await covered(documents[:1], question, found)

    assert together.judgement != "absent"
    assert "water" in alone.unknown
    assert "water" not in together.unknown


def test_what_is_missing_is_named() -> None:
    """Whoever words the answer can say what was not found."""
    passage = Passage(0, 1, 1, "", "循环水泵的功率为二十千瓦。")
    frequencies = {"循环": 3, "环水": 3, "水泵": 3, "泵产": 0, "产地": 0}

    judged = coverage("循环水泵的产地在哪里？", [passage], frequencies, 100)

    assert judged.missing == ("产地在",)
    assert 0 < judged.best < 1


def test_a_question_without_words_of_its_own_misses_nothing() -> None:
    """“What does it say?” is answered by whatever there is."""
    assert coverage("这是什么？", [], {}, 10).judgement == "unsure"


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("合同的违约金是多少？", "lookup"),
        ("项目总投资多少万元？", "lookup"),
        ("哪个城市比较大？", "lookup"),
        ("How many employees does the firm have?", "lookup"),
        ("这几篇文章讲了什么？", "summary"),
        ("请总结全文", "summary"),
        ("What is this document about?", "summary"),
        ("Give me the key points", "summary"),
        ("列出文中提到的所有公司", "list"),
        ("List all the people mentioned", "list"),
        ("文中一共提到了多少次循环水泵？", "count"),
        ("How many times is the pump mentioned?", "count"),
        ("比较甲方案和乙方案", "compare"),
        ("What is the difference between plan A and plan B?", "compare"),
        ("x" * 50_000 + "请总结", "summary"),
    ],
)
def test_a_question_says_what_it_wants_of_a_document(question: str, kind: str) -> None:
    """Five passages answer a lookup, and are no summary."""
    assert kind_of(question) == kind
