"""Vectors of passages are made beside what reads documents: what is wrong with one of them stays with it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hanlin.documents.shelf import Shelf
from hanlin.service import passage_vectors
from hanlin.service.passage_vectors import PassageVectors


async def test_a_document_that_fails_does_not_end_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One task reads files, another makes vectors; the end of one would be the end of both, and nobody would see it."""
    shelf = Shelf(tmp_path)
    for digest in ("broken", "whole"):
        (tmp_path / digest).mkdir()
    asked: list[str] = []

    async def embed(folder: Path, *_: Any, **__: Any) -> int:
        asked.append(folder.name)
        if folder.name == "broken":
            raise ValueError("vectors of 2 numbers are followed by others")
        return 0

    def call(_request: object) -> Any:
        deployment = SimpleNamespace(embedded=True)
        return SimpleNamespace(plan=SimpleNamespace(answering=SimpleNamespace(fingerprint="m"), deployment=deployment))

    monkeypatch.setattr(passage_vectors, "embed", embed)
    vectors = PassageVectors(shelf, call, lambda: False)

    assert await vectors.step() == 0
    assert await vectors.step() == 0
    assert sorted(asked) == ["broken", "whole"]
