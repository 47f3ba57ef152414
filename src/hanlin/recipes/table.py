"""The recipes by the names that rows of the catalogue call them by."""

from collections.abc import Mapping

from hanlin.recipes.data_mining import DATA_MINING
from hanlin.recipes.long_documents import LONG_DOCUMENTS
from hanlin.recipes.recipe import Recipe

_ALL: tuple[Recipe, ...] = (
    DATA_MINING,
    LONG_DOCUMENTS,
)

RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in _ALL}

__all__ = ["RECIPES"]
