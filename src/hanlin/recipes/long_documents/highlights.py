"""Pick out the sentences that are nearest to a question, by its rare words: small models overlook one among hundreds.

Pure. The sentences stand once more right ahead of the question, with their pages; nothing is taken away for them.
"""

import re
from collections import Counter
from collections.abc import Sequence
from math import log

from hanlin.metering.estimate import text_tokens
from hanlin.recipes.attachments import has_pages
from hanlin.recipes.long_documents.prompts import Piece, Words
from hanlin.recipes.long_documents.sources import place_of
from hanlin.recipes.texts import terms

LARGEST_WINDOW = 32_768
"""Models with a larger window find a sentence by themselves."""

_MOST, _MOST_TOKENS = 4, 320
_LEAST_SHARE = 0.34  # of the weight of a question's words
_WORTH = 0.6  # of the best sentence's: what is worth less is left out
_SENTENCE = re.compile(r"[^。！？!?\n]+(?:[。！？!?]+[”’」』）)]*|(?=\n)|$)")
_ENGLISH_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9\"'(])")
_MOST_CHARS = 400


def highlights(question: str, pieces: Sequence[Piece]) -> list[tuple[Piece, str]]:
    """Return the few sentences that have the most of a question's words, in the order of the pieces."""
    sentences = [(piece, sentence) for piece in pieces for sentence in _sentences(piece.text)]
    words = [terms(sentence) for _, sentence in sentences]
    wanted = terms(question)
    often = Counter(word for found in words for word in found & wanted)
    weights = {word: log(1 + len(sentences) / (1 + often[word])) for word in wanted}
    total = sum(weights.values())
    scores = [sum(weights[word] for word in found & wanted) for found in words]
    best = sorted(range(len(sentences)), key=lambda at: -scores[at])[:_MOST]
    worth = max(_LEAST_SHARE * total, _WORTH * max(scores, default=0.0))
    kept: list[int] = []
    left = _MOST_TOKENS
    for at in best:
        left -= text_tokens(sentences[at][1])
        if scores[at] < worth or not scores[at] or left < 0:
            break
        kept.append(at)
    return [sentences[at] for at in sorted(kept)]


def told(sought: Sequence[str], pieces: Sequence[Piece], words: Words) -> str:
    """Return the sentences nearest to what was looked for, one search after the other; "" where none is near."""
    lines = []
    near = [found for one in sought for found in highlights(one, pieces)]
    for piece, sentence in {(id(piece), sentence): (piece, sentence) for piece, sentence in near}.values():
        paged = has_pages(piece.document) and piece.first_page == piece.last_page
        place = words.source.format(places=place_of([str(piece.first_page)], "", words)) if paged else ""
        lines.append(f"- {sentence}{place}")
    return f"{words.highlights}\n{chr(10).join(lines)}" if lines else ""


def _sentences(text: str) -> list[str]:
    parts = [part for found in _SENTENCE.findall(text) for part in _ENGLISH_END.split(found)]
    return [part.strip()[:_MOST_CHARS] for part in parts if part.strip()]


__all__ = ["LARGEST_WINDOW", "highlights", "told"]
