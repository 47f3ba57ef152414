"""Earlier translations: a sentence that was translated before is not translated again, and near ones are examples."""

import unicodedata
from collections import Counter
from collections.abc import Sequence

from hanlin.recipes.translation.options import Pair

_ORDER = 6  # the longest run of characters that chrF compares
_BETA = 2  # recall counts twice as much as precision
_NEAR = 3
_LOOKED_AT = 24
_LONGEST_EXAMPLE = (
    2000  # characters: a longer pair is no example for one piece, and comparing it costs others their time
)
_LEAST_LIKENESS = 20.0  # of 100; what is less alike teaches a model nothing about this sentence


def chrf(candidate: str, reference: str) -> float:
    """Return how alike two texts are, 0 to 100: the F-score of their runs of characters (chrF, Popović 2015)."""
    ours, theirs = "".join(candidate.split()), "".join(reference.split())
    precisions: list[float] = []
    recalls: list[float] = []
    for length in range(1, _ORDER + 1):
        have, want = _runs(ours, length), _runs(theirs, length)
        if not have or not want:
            continue
        same = sum((have & want).values())
        precisions.append(same / sum(have.values()))
        recalls.append(same / sum(want.values()))
    if not precisions:
        return 0.0
    precision, recall = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    if not precision + recall:
        return 0.0
    return 100 * (1 + _BETA**2) * precision * recall / (_BETA**2 * precision + recall)


def _runs(text: str, length: int) -> Counter[str]:
    return Counter(text[at : at + length] for at in range(len(text) - length + 1))


def same(text: str) -> str:
    """Return a sentence as it is compared: width, case and blank space do not count."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


class Memory:
    """The sentence pairs of one call."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._known = {same(pair.source): pair.target for pair in pairs}
        self._examples = [
            (same(pair.source), pair) for pair in pairs if max(len(pair.source), len(pair.target)) <= _LONGEST_EXAMPLE
        ]
        self._with: dict[str, list[int]] = {}
        for number, (source, _) in enumerate(self._examples):
            for run in set(_runs(source, 2)):
                self._with.setdefault(run, []).append(number)

    def __bool__(self) -> bool:
        return bool(self._known)

    def known(self, text: str) -> str | None:
        """Return the translation of this very sentence."""
        return self._known.get(same(text))

    def near(self, text: str) -> tuple[Pair, ...]:
        """Return the pairs whose source is most like a text, the nearest last: what a model read last counts most."""
        plain = same(text)
        common = Counter[int]()
        for run in set(_runs(plain, 2)):
            common.update(self._with.get(run, ()))
        # Comparing all with all would take seconds for a long text: what shares most pairs of letters is compared.
        likely = [self._examples[number] for number, _ in common.most_common(_LOOKED_AT)]
        scored = sorted(((chrf(source, plain), pair) for source, pair in likely), key=lambda row: row[0])
        return tuple(pair for score, pair in scored[-_NEAR:] if score >= _LEAST_LIKENESS)


__all__ = ["Memory", "chrf", "same"]
