"""Which thread settings stay fast while something else works on the same cores: tokens a second, idle and loaded.

llama.cpp's threads wait for each other by spinning (OpenMP). Spinning beside other work wastes the turns of whoever has
the answer; not spinning wastes time on waking up. Measured in turns, on the engine alone.
"""

import multiprocessing
import os
import statistics
import subprocess
import sys
import time

from tests.conftest import fetched_weights

ROUNDS = 3
SETTINGS: tuple[tuple[str, int, dict[str, str]], ...] = (
    ("1 thread", 1, {}),
    ("2 threads, OpenMP's default", 2, {}),
    ("2 threads, passive", 2, {"OMP_WAIT_POLICY": "passive"}),
    ("2 threads, spin 10000", 2, {"GOMP_SPINCOUNT": "10000"}),
    ("2 threads, spin 1000", 2, {"GOMP_SPINCOUNT": "1000"}),
    ("2 threads, spin 100", 2, {"GOMP_SPINCOUNT": "100"}),
)

PROGRAM = """
import os, sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, threads = sys.argv[1], int(sys.argv[2])
params.hostnames = [sys.argv[3]]
params.n_ctx, params.n_parallel, params.n_batch, params.n_ubatch = 2048, 1, 32, 32
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
server = xllamacpp.Server(params)
body = {"messages": [{"role": "user", "content": "你好" * 100}], "max_tokens": 48, "cache_prompt": False, "seed": 1}
timings = server.handle_chat_completions(body)["timings"]
print(timings["prompt_per_second"], timings["predicted_per_second"], flush=True)
os.unlink(sys.argv[3])
os._exit(0)
"""


def burn() -> None:
    """Keep one core busy."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        pass


def rates(threads: int, environment: dict[str, str], *, beside_load: bool) -> tuple[float, float]:
    """Return prompt and output tokens a second of one run."""
    load = multiprocessing.Process(target=burn, daemon=True)
    if beside_load:
        load.start()
    try:
        result = subprocess.run(
            [
                sys.executable,
                "-c",
                PROGRAM,
                str(fetched_weights()),
                str(threads),
                f"/tmp/hanlin-bench-{os.getpid()}.sock",
            ],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        if beside_load:
            load.kill()
            load.join()
    prompt, output = result.stdout.split()[-2:]
    return float(prompt), float(output)


def measure() -> None:
    results: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        for name, threads, environment in SETTINGS:
            for beside_load in (False, True):
                found = rates(threads, environment, beside_load=beside_load)
                results.setdefault((name, beside_load), []).append(found)
    print(f"{'':30} {'idle':>16} {'beside a load':>16}   prompt and output tokens/s, medians of {ROUNDS}")
    for name, _, _ in SETTINGS:
        cells = []
        for beside_load in (False, True):
            prompt, output = (statistics.median(column) for column in zip(*results[name, beside_load], strict=True))
            cells.append(f"{prompt:8.1f}{output:8.1f}")
        print(f"{name:30} {cells[0]:>16} {cells[1]:>16}")


if __name__ == "__main__":
    measure()
