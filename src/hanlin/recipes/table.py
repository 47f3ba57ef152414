"""The recipes by the names that rows of the catalogue call them by."""

from collections.abc import Mapping

from hanlin.recipes.recipe import Recipe
from hanlin.recipes.translation import TRANSLATION

_ALL: tuple[Recipe, ...] = (TRANSLATION,)

RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in _ALL}

__all__ = ["RECIPES"]
