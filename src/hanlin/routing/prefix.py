"""Which deployment has read the beginning of a prompt already. An index of hashes: no text is kept.

A guess for the order of attempts, nothing more: engines forget what they read without telling, and two texts may share
a hash.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

BLOCK_CHARACTERS = 512
BLOCKS_LIMIT = 128

Fingerprints = tuple[int, ...]
"""One hash for each beginning of a prompt that is a whole number of blocks long, shortest first."""


def fingerprints(texts: Iterable[str]) -> Fingerprints:
    """Hash the beginning of a prompt, block by block, each hash over all that stands before its block's end.

    `texts` are the prompt's pieces in their order (a role, its text, the next role …). What is beyond `BLOCKS_LIMIT`
    blocks is not looked at, and a last piece shorter than a block is left out. The hashes are keyed by Python's secret
    of this process: nobody can build a prompt that meets another's, and they mean nothing elsewhere.
    """
    head: list[str] = []
    left = BLOCKS_LIMIT * BLOCK_CHARACTERS
    for text in texts:
        head.append(text[:left])
        left -= len(text) + 1
        if left <= 0:
            break
    prompt = "\0".join(head)
    chain = 0
    found: list[int] = []
    for end in range(BLOCK_CHARACTERS, min(len(prompt), BLOCKS_LIMIT * BLOCK_CHARACTERS) + 1, BLOCK_CHARACTERS):
        chain = hash((chain, prompt[end - BLOCK_CHARACTERS : end]))
        found.append(chain)
    return tuple(found)


class PrefixIndex:
    """At most `limit` fingerprints for all deployments; what was not met for longest is forgotten first.

    Where room is short, the deployment that holds most gives up its own, so that each has a fair share.
    """

    __slots__ = ("_entries", "_limit", "_read")

    def __init__(self, limit: int = 65_536) -> None:
        self._limit = limit
        self._entries = 0
        self._read: dict[str, OrderedDict[int, None]] = {}

    def __len__(self) -> int:
        return self._entries

    def seen(self, prompt: Fingerprints) -> Mapping[str, int]:
        """Return how many characters of the prompt's beginning each deployment has read; those with none are missing.

        Looking changes nothing: a prompt that goes elsewhere does not keep it fresh here.
        """
        found: dict[str, int] = {}
        for deployment, read in self._read.items():
            blocks = 0
            for fingerprint in prompt:
                if fingerprint not in read:
                    break
                blocks += 1
            if blocks:
                found[deployment] = blocks * BLOCK_CHARACTERS
        return found

    def note(self, prompt: Fingerprints, deployment: str) -> None:
        """Remember that a deployment reads this prompt now."""
        read = self._read.setdefault(deployment, OrderedDict())
        before = len(read)
        # From the end, so that a long beginning is forgotten before a short one: without its start it is never found.
        for fingerprint in reversed(prompt):
            read[fingerprint] = None
            read.move_to_end(fingerprint)
        self._entries += len(read) - before
        while self._entries > self._limit:
            max(self._read.values(), key=len).popitem(last=False)
            self._entries -= 1

    def forget(self, deployment: str) -> None:
        """A deployment has lost what it read: it was restarted, or is no more."""
        self._entries -= len(self._read.pop(deployment, ()))
