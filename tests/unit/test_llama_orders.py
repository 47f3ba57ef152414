"""What the embedded engine is told, from the weights and the machine."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from hanlin.engines.llama import GIB, Machine, Orders, batch_that_lasts, context_that_fits, orders

SMALL_BYTES, LARGE_BYTES = 491_400_064, 1_117_320_736


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    with path.open("wb") as file:
        file.truncate(SMALL_BYTES)  # a hole: it takes no room on the disk
    return path


USUAL = Machine(8 * GIB, 2)


def told(weights: Path, machine: Machine = USUAL, **fields: Any) -> Orders:
    return orders("small", weights, Path("/run/s.sock"), machine, **{"trained_tokens": 32_768, **fields})


def test_what_nobody_set_is_chosen_from_the_machine(weights: Path) -> None:
    """A first start needs no settings."""
    result = told(weights)

    assert (result.slots, result.threads, result.context_tokens) == (4, 2, 16_384)
    assert (result.batch_tokens, result.cache_mib) == (32, 256)
    assert (result.model_path, result.socket) == (str(weights), "/run/s.sock")
    assert result.parent_pid == os.getpid()


def test_what_somebody_set_holds(weights: Path) -> None:
    """The operator knows the machine better."""
    result = told(weights, slots=2, threads=7, context_tokens=1_000, spin=0)

    assert (result.slots, result.threads, result.context_tokens, result.spin) == (2, 7, 1_000, 0)


@pytest.mark.parametrize("asked", [0, 100_000])
def test_no_context_is_longer_than_the_weights_were_trained_for(weights: Path, asked: int) -> None:
    """Beyond it they produce nonsense."""
    assert told(weights, Machine(64 * GIB, 2), trained_tokens=2_048, context_tokens=asked).context_tokens == 2_048


def test_a_machine_that_reports_no_cores_gets_one_thread(weights: Path) -> None:
    """Zero threads would not start."""
    assert told(weights, Machine(GIB, 0)).threads == 1


def test_a_small_machine_keeps_a_small_cache(weights: Path) -> None:
    """Its default of 8 GiB in llama.cpp would take all memory there is."""
    assert told(weights, Machine(8 * GIB - 1, 2)).cache_mib == 64


@pytest.mark.parametrize(
    ("free_bytes", "size_bytes", "slots", "tokens"),
    [
        (0, 491_400_064, 4, 2_048),
        (GIB, 491_400_064, 4, 2_048),
        (8 * GIB, 1_117_320_768, 4, 8_192),
        (22 * GIB, 1_117_320_768, 4, 16_384),
        (16 * GIB, 5_000_000_000, 4, 2_048),
        (16 * GIB, 5_000_000_000, 1, 8_192),
    ],
)
def test_the_context_fits_beside_the_weights(free_bytes: int, size_bytes: int, slots: int, tokens: int) -> None:
    """Larger weights need more memory for each token too: a child that does not fit is killed again and again."""
    assert context_that_fits(free_bytes, size_bytes, slots) == tokens


@pytest.mark.parametrize(
    ("size_bytes", "threads", "tokens"),
    [
        (SMALL_BYTES, 2, 32),
        (LARGE_BYTES, 2, 16),
        (SMALL_BYTES, 1, 16),
        (SMALL_BYTES, 1000, 512),
        (200 * GIB, 1, 8),
        (0, 1, 512),
    ],
)
def test_a_batch_lasts_about_a_quarter_of_a_second(size_bytes: int, threads: int, tokens: int) -> None:
    """A hang-up while the prompt is read is noticed between two batches; measured for the two default weights."""
    assert batch_that_lasts(size_bytes, threads) == tokens


def test_the_child_gets_no_secret_of_its_parent(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp reads hostile input: what it does not have it cannot give away."""
    for name in ("DASHSCOPE_API_KEY", "HANLIN_API_KEY", "AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "HOME"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/lib")

    environment = told(weights, spin=1000).environment()

    assert set(environment) <= {"PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "GOMP_SPINCOUNT", "PYTHONUNBUFFERED"}
    assert (environment["GOMP_SPINCOUNT"], environment["LD_LIBRARY_PATH"]) == ("1000", "/opt/lib")


def test_the_child_is_our_own_module_and_its_orders_are_json(weights: Path) -> None:
    """They travel on its stdin, so nothing of them is in the list of processes."""
    result = told(weights)

    assert result.command() == [sys.executable, "-m", "hanlin.engines.llama_child"]
    assert Orders(**json.loads(json.dumps(result.line()))) == result
