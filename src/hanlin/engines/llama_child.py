"""The program of the embedded engine's process: llama.cpp's server on a Unix socket, and nothing else of Hanlin.

Started by `supervisor` as `python -m hanlin.engines.llama_child`. The first line on stdin is its orders (`Orders` as
JSON); when stdin ends, the parent is gone and so is this process. One line on stdout says that it is ready.
"""

import contextlib
import json
import os
import resource
import signal
import sys
from typing import Any

from hanlin.engines.parent import die_with_the_parent


def main() -> None:
    orders = json.loads(sys.stdin.readline())
    die_with_the_parent(orders["parent_pid"])
    # llama.cpp prints to stdout as well: the line of readiness keeps the real one, everything else goes to stderr.
    control = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    server = _serve(orders)
    control.write(json.dumps({"ready": server.listening_address}) + "\n")
    control.flush()
    while True:
        signal.pause()


def _serve(orders: dict[str, Any]) -> Any:
    # Imported here, after the environment of this process is certain: the library reads OpenMP's variables on load.
    import xllamacpp

    # A socket left by a killed process would keep this one from binding.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(orders["socket"])
    params = xllamacpp.CommonParams()
    params.model.path = orders["model_path"]
    params.model_alias = {orders["name"]}
    params.hostnames = [orders["socket"]]
    params.n_ctx = orders["context_tokens"] * orders["slots"]
    params.n_parallel = orders["slots"]
    params.n_batch = params.n_ubatch = max(orders["batch_tokens"], orders["slots"])
    params.cpuparams.n_threads = orders["threads"]
    params.cpuparams_batch.n_threads = orders["threads"]
    params.cache_ram_mib = orders["cache_mib"]
    params.ctx_shift = False  # a prompt or an answer beyond the context is said, never cut silently
    params.endpoint_slots = True
    params.endpoint_metrics = True
    params.ui = False
    if orders["embeds"]:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        params.warmup = False
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
