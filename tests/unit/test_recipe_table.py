"""The table of recipes: what rows of the catalogue name is there, and is loaded when somebody wants it."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import pytest

from hanlin.catalogue import load
from hanlin.recipes.recipe import Recipe
from hanlin.recipes.table import RECIPES
from hanlin.service.studio import Studio
from hanlin.settings import Settings
from hanlin.store.database import open_store
from hanlin.testing import ScriptedEngine
from tests.values import catalogue_of, deployment, model


def test_every_recipe_goes_by_its_own_name() -> None:
    """It stands twice, so that a name can be known before its recipe is loaded."""
    assert {name: recipe.name for name, recipe in RECIPES.items()} == {name: name for name in RECIPES}


def test_every_scenario_of_the_catalogue_has_its_recipe() -> None:
    """A row whose recipe is missing would be answered as a chat like any."""
    assert {model.recipe for model in load().models.values()} - {""} == set(RECIPES)


def test_a_service_that_answers_no_scenario_loads_none() -> None:
    """Their rules and patterns are megabytes, which a gateway would carry for nothing."""
    program = "import sys, hanlin.cli.main, hanlin.cli.worker; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()

    assert {name for name in loaded if name.startswith("hanlin.recipes.")} <= {
        *("hanlin.recipes.recipe", "hanlin.recipes.table"),
        *("hanlin.recipes.translation", "hanlin.recipes.translation.languages"),  # `hanlin translate` names them
    }


class _Watched(Mapping[str, Recipe]):
    """The table, remembering what was looked up."""

    def __init__(self) -> None:
        self.wanted: list[str] = []

    def __getitem__(self, name: str) -> Recipe:
        self.wanted.append(name)
        return RECIPES[name]

    def __contains__(self, name: object) -> bool:
        return name in RECIPES

    def __iter__(self) -> Iterator[str]:
        return iter(RECIPES)

    def __len__(self) -> int:
        return len(RECIPES)


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    rows = (model("mine", recipe="maths"), model("theirs", recipe="intent"), model("plain"))
    studio = Studio(Settings(), catalogue_of(*rows), await open_store(tmp_path / "hanlin.db"), b"secret")
    yield studio
    await studio.close()


async def test_recipes_are_loaded_ahead_of_the_calls_that_they_answer(studio: Studio) -> None:
    """Whoever comes first would wait for it, and everybody with him."""
    watched = studio.recipes = _Watched()
    studio.deployments = [deployment(ScriptedEngine(), embedded=False, serves=("mine", "plain"))]

    await studio.load_recipes()

    assert watched.wanted == ["maths"]
