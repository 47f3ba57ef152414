"""Weights on this machine: which files a model needs, fetching them from wherever they can be had, keeping them whole.

`locate` and `pick` find and choose the files of a published model, `fetch` and `fetch_set` get them into the home's
`models/` folder, `store` says what is there. What runs them is another room's business.
"""

from hanlin.engines.weights.errors import (
    DigestMismatch,
    DiskFull,
    DoesNotFit,
    FolderUnusable,
    NoSource,
    SourceFailed,
    SourceUnreachable,
    SourceUnusable,
    WeightsError,
)
from hanlin.engines.weights.fetch import Means, fetch, fetch_set, label_of
from hanlin.engines.weights.hubs import Located, list_files, locate
from hanlin.engines.weights.plan import Choice, HubFile, memory_needed, pick, quantisation
from hanlin.engines.weights.store import Installed, find, installed, intact, quarantine, verify
from hanlin.engines.weights.values import Hub, Patience, Progress, Source, SourceRow, Tell, Wanted, with_environment

__all__ = [
    "Choice",
    "DigestMismatch",
    "DiskFull",
    "DoesNotFit",
    "FolderUnusable",
    "Hub",
    "HubFile",
    "Installed",
    "Located",
    "Means",
    "NoSource",
    "Patience",
    "Progress",
    "Source",
    "SourceFailed",
    "SourceRow",
    "SourceUnreachable",
    "SourceUnusable",
    "Tell",
    "Wanted",
    "WeightsError",
    "fetch",
    "fetch_set",
    "find",
    "installed",
    "intact",
    "label_of",
    "list_files",
    "locate",
    "memory_needed",
    "pick",
    "quantisation",
    "quarantine",
    "verify",
    "with_environment",
]
