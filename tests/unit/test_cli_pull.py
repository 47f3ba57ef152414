"""What `hanlin pull` decides before it fetches anything."""

import hashlib
import os
from pathlib import Path

import pytest

from hanlin.catalogue import Catalogue, WeightsCatalogue, load, load_weights
from hanlin.cli.pull import is_whole, plan, repaired
from hanlin.engines.weights import Means, NoSource, Wanted
from hanlin.engines.weights.store import install, partial_folder
from hanlin.errors import StartupError
from hanlin.home import Home, prepare

PLENTY = 2**40
OFFLINE = Means()  # no hub is known


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


@pytest.fixture(scope="module")
def rows() -> WeightsCatalogue:
    return load_weights()


def test_weights_of_our_own_catalogue_need_nobody_to_be_asked(catalogue: Catalogue, rows: WeightsCatalogue) -> None:
    """They can be had from the package index, where no hub is reachable."""
    planned = plan("qwen2.5-coder-0.5b-instruct", rows, catalogue, "", PLENTY, OFFLINE)

    assert [part.sha256 for part in planned.parts] == [rows.rows["qwen2.5-coder-0.5b-instruct"].sha256]
    assert plan("qwen2.5-coder-0.5b-instruct", rows, catalogue, "q4_k_m", PLENTY, OFFLINE).parts == planned.parts


def test_a_quantisation_that_our_own_row_has_not_is_looked_for_on_the_hubs(
    catalogue: Catalogue, rows: WeightsCatalogue
) -> None:
    """Given another one instead, somebody would measure the wrong model."""
    with pytest.raises(NoSource):
        plan("qwen2.5-coder-7b-instruct", rows, catalogue, "Q8_0", PLENTY, OFFLINE)


def test_what_nobody_knows_and_what_was_never_published_is_said(catalogue: Catalogue, rows: WeightsCatalogue) -> None:
    """The two remedies differ: look up the name, or rent the model."""
    with pytest.raises(StartupError, match="hanlin models"):
        plan("qwen99", rows, catalogue, "", PLENTY, OFFLINE)
    with pytest.raises(NoSource, match="never published"):
        plan("qwen-mt-plus", rows, catalogue, "", PLENTY, OFFLINE)


def installed_weights(tmp_path: Path) -> tuple[Home, str]:
    home = Home(tmp_path / "home")
    prepare(home)
    content = b"weights" * 100
    sha256 = hashlib.sha256(content).hexdigest()
    unfinished = partial_folder(home.models) / "data"
    unfinished.write_bytes(content)
    install(home.models, unfinished, Wanted("small", len(content), sha256, ()), "a test")
    return home, sha256


def test_weights_that_are_here_and_whole_are_not_fetched_again(tmp_path: Path) -> None:
    """A second `pull` costs a second, not a gigabyte."""
    home, sha256 = installed_weights(tmp_path)

    assert repaired(home, sha256)
    assert is_whole(home, sha256)


def test_weights_that_a_bad_disk_has_changed_are_put_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The doctor's remedy for damaged weights is `hanlin pull`: it must look at the bytes, not at the date."""
    home, sha256 = installed_weights(tmp_path)
    file = home.models / sha256
    status = file.stat()
    file.write_bytes(b"weightz" * 100)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    assert not repaired(home, sha256)
    assert not file.exists()


def test_weights_that_were_never_here_are_not_whole(tmp_path: Path) -> None:
    """Nothing is said about them, and nothing put aside."""
    assert not repaired(Home(tmp_path), "0" * 64)
