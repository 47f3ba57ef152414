"""Broken and hostile files, read in the real process: each has its reason or its text, and nothing else happens."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from hanlin.documents.limits import Limits
from hanlin.documents.parsing import pages_in, read
from hanlin.documents.unreadable import REASONS, DocumentUnreadable
from tests.documents_corpus import CORPUS, Case

AT_ONCE = 3
PATIENCE = Limits(total_s=30.0, reads_pictures=False)
"""Whatever does not end by itself within these seconds ends with `timeout`, which is nobody's outcome."""

MEMORY_BYTES = 300 * 2**20


@dataclass(frozen=True)
class Outcome:
    reason: str = ""
    text: str = ""
    pages: int = 0
    peak_bytes: int = 0
    left: tuple[str, ...] = ()  # files in the folder afterwards


async def _outcome(case: Case, folder: Path) -> Outcome:
    out = folder / "out"
    out.mkdir(parents=True)
    path = folder / "file"
    await asyncio.to_thread(case.make, path)
    limits = msgspec.structs.replace(PATIENCE, reads_pictures=case.ocr)
    try:
        found = await read(path, case.filename, out, limits=limits)
    except DocumentUnreadable as error:
        return Outcome(reason=error.reason, left=tuple(entry.name for entry in out.iterdir()))
    finally:
        if path.is_file():
            path.unlink()
    text = "\n".join(page.text for page in pages_in(out))
    for entry in out.iterdir():
        entry.unlink()
    return Outcome(text=text, pages=found.pages, peak_bytes=found.peak_bytes)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Outcome]:
    """What became of each file of the corpus; some are read at the same time."""

    async def everything() -> dict[str, Outcome]:
        places = asyncio.Semaphore(AT_ONCE)

        async def one(number: int, case: Case) -> Outcome:
            async with places:
                return await _outcome(case, root / str(number))

        found = await asyncio.gather(*(one(number, case) for number, case in enumerate(CORPUS.values())))
        return dict(zip(CORPUS, found, strict=True))

    root = tmp_path_factory.mktemp("hostile")
    return asyncio.run(everything())


@pytest.mark.parametrize("name", CORPUS)
def test_a_hostile_file_has_its_reason_or_its_text(name: str, outcomes: Mapping[str, Outcome]) -> None:
    """Whoever uploads a file must hear what is wrong with it, and nobody else may notice."""
    case, outcome = CORPUS[name], outcomes[name]

    wanted = [text for text in case.outcome if text not in REASONS]
    assert outcome.reason in case.outcome or (not outcome.reason and any(text in outcome.text for text in wanted))
    assert case.absent not in outcome.text
    assert outcome.pages <= case.within


def test_a_file_that_cannot_be_read_leaves_nothing_behind(outcomes: Mapping[str, Outcome]) -> None:
    """Half a document must not be taken for a whole one, nor fill the disk."""
    left = {name: outcome.left for name, outcome in outcomes.items() if outcome.left}

    assert not left


def test_what_can_be_read_is_read_in_little_memory(outcomes: Mapping[str, Outcome]) -> None:
    """A service that shares its machine with parsers is killed when they take everything. What cannot be read has the
    bound of its process, which no test can improve on."""
    greedy = {name: outcome.peak_bytes for name, outcome in outcomes.items() if outcome.peak_bytes > MEMORY_BYTES}

    assert not greedy
