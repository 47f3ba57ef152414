"""The recipes by the names that rows of the catalogue call them by, each loaded when it is first looked up.

Their rules, tables and patterns take memory that a service without scenario models would never use.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module

from hanlin.recipes.recipe import Recipe

_WHERE = {
    "data-mining": ("hanlin.recipes.data_mining", "DATA_MINING"),
    "dialogue-analysis": ("hanlin.recipes.dialogue_analysis", "ANALYSIS"),
    "intent": ("hanlin.recipes.intent", "INTENT"),
    "long-documents": ("hanlin.recipes.long_documents", "LONG_DOCUMENTS"),
    "maths": ("hanlin.recipes.maths", "MATHS"),
    "translation": ("hanlin.recipes.translation.recipe", "TRANSLATION"),
}


class _Shelf(Mapping[str, Recipe]):
    """Looking a recipe up may take 0.1 s the first time; from other threads, too."""

    def __getitem__(self, name: str) -> Recipe:
        return _loaded(name)

    def __contains__(self, name: object) -> bool:
        return name in _WHERE

    def __iter__(self) -> Iterator[str]:
        return iter(_WHERE)

    def __len__(self) -> int:
        return len(_WHERE)


@cache
def _loaded(name: str) -> Recipe:
    module, constant = _WHERE[name]
    recipe: Recipe = getattr(import_module(module), constant)
    return recipe


RECIPES: Mapping[str, Recipe] = _Shelf()

__all__ = ["RECIPES"]
