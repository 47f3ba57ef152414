"""The recipes by the names that rows of the catalogue call them by."""

from collections.abc import Mapping

from hanlin.recipes.data_mining import DATA_MINING
from hanlin.recipes.dialogue_analysis import ANALYSIS
from hanlin.recipes.intent import INTENT
from hanlin.recipes.long_documents import LONG_DOCUMENTS
from hanlin.recipes.maths import MATHS
from hanlin.recipes.recipe import Recipe
from hanlin.recipes.translation import TRANSLATION

_ALL: tuple[Recipe, ...] = (ANALYSIS, DATA_MINING, INTENT, LONG_DOCUMENTS, MATHS, TRANSLATION)

RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in _ALL}

__all__ = ["RECIPES"]
