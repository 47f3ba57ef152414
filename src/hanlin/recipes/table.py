"""The recipes by the names that rows of the catalogue call them by."""

from collections.abc import Mapping

from hanlin.recipes.recipe import Recipe

_ALL: tuple[Recipe, ...] = ()

RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in _ALL}

__all__ = ["RECIPES"]
