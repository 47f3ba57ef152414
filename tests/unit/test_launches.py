"""What GPU engines are told: the rows of `launches.toml`, the command line made of them, the environment beside it."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from hanlin.engines.engine_log import LogFile, advice, telling
from hanlin.engines.launches import (
    GpuOrders,
    Kind,
    child_environment,
    command,
    lacks_template,
    launch_for,
    launches,
    missing,
    orders_of,
    too_old,
    version_command,
    version_in,
)
from hanlin.engines.managed import engine_profile
from hanlin.errors import StartupError
from hanlin.settings import DeploymentRow
from hanlin.testing.gpu_server import options, parse

KINDS: tuple[Kind, ...] = ("vllm", "sglang")
FLAGS = [
    pytest.param(kind, launch.flags(kind), id=f"{launch.models[0]} on {kind}")
    for launch in launches()
    for kind in KINDS
]


def orders(tmp_path: Path, environment: dict[str, str] | None = None, **fields: object) -> GpuOrders:
    """Return the orders of a row that differs from a plain one in `fields`."""
    plain: dict[str, object] = {"name": "gpu", "engine": "vllm", "weights": "Qwen/Qwen3-8B"}
    row = DeploymentRow(**{**plain, **fields})  # type: ignore[arg-type]
    return orders_of(
        row, logs=tmp_path / "logs", run=tmp_path / "run", environment=environment or {}, devices=tmp_path / "dev"
    )


def value_of(option: str, told: Sequence[str]) -> str | None:
    """Return what an option is given last, as the engines read it."""
    positions = [at for at, one in enumerate(told) if one == option]
    return told[positions[-1] + 1] if positions else None


# --- the rows --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "flags"), FLAGS)
def test_every_row_uses_options_and_parsers_that_the_published_release_has(
    kind: Kind, flags: object, tmp_path: Path
) -> None:
    """A misspelt parser keeps a machine of GPUs from starting, and the two engines spell the same ones differently."""
    known = options(kind)
    told = launches_command(kind, flags, tmp_path)

    named = [one for one in told if one.startswith("--")]

    assert set(named) <= {*known.flags, *known.values, *known.lists}
    assert value_of("--tool-call-parser", told) in (None, *known.tools)
    assert value_of("--reasoning-parser", told) in (None, *known.reasoning)
    parse(kind, told)


def launches_command(kind: Kind, flags: object, tmp_path: Path) -> list[str]:
    """Return the arguments that a row makes, without the program and without a key's file, which is not there."""
    row = next(row for row in launches() if row.flags(kind) is flags)
    model = row.models[0].replace("*", "x").replace("[5-9]", "6").replace("[6-9]", "7").replace("[3-9]", "4")
    made = orders(tmp_path, engine=kind, weights=f"somebody/{model}", arguments=("--config", "own.yaml"))
    assert made.flags is flags, f"another row comes before {row.models[0]}"
    return command(made, kind, 8000)[2:-2]


@pytest.mark.parametrize(
    ("model", "tools", "reasoning"),
    [
        ("Qwen/Qwen3-8B", "hermes", "qwen3"),
        ("somebody/Qwen3-8B-FP8", "hermes", "qwen3"),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", "hermes", ""),
        ("Qwen/Qwen3-30B-A3B-Thinking-2507", "hermes", "qwen3"),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "qwen3_coder", ""),
        ("Qwen/Qwen3.6-35B-A3B", "qwen3_coder", "qwen3"),
        ("Qwen/Qwen2.5-7B-Instruct", "hermes", ""),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "", "deepseek_r1"),
        ("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B", "", "deepseek_r1"),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek_v3", "deepseek_r1"),
        ("deepseek-ai/DeepSeek-V3.1-Terminus", "deepseek_v31", "deepseek_v3"),
        ("deepseek-ai/DeepSeek-V3.2", "deepseek_v32", "deepseek_v3"),
        ("deepseek-ai/DeepSeek-V4-Flash", "deepseek_v4", "deepseek_v4"),
        ("deepseek-ai/DeepSeek-V4.1-Flash", "deepseek_v41", "deepseek_v41"),
        ("moonshotai/Kimi-K2-Instruct-0905", "kimi_k2", ""),
        ("moonshotai/Kimi-K2-Thinking", "kimi_k2", "kimi_k2"),
        ("moonshotai/Kimi-K2.6", "kimi_k2", "kimi_k2"),
        ("moonshotai/Kimi-K3", "kimi_k3", "kimi_k3"),
        ("zai-org/GLM-4.5-Air", "glm45", "glm45"),
        ("zai-org/GLM-5.3", "glm47", "glm47"),
        ("MiniMaxAI/MiniMax-M2.1", "minimax_m2", "minimax_m2"),
        ("MiniMaxAI/MiniMax-M3", "minimax_m3", "minimax_m3"),
        ("XiaomiMiMo/MiMo-V2.5", "mimo", "mimo"),
        ("somebody/made-up-7B", "", ""),
    ],
)
def test_a_model_is_read_by_its_familys_parsers(model: str, tools: str, reasoning: str) -> None:
    """With the wrong one calls and thoughts arrive as text; relatives differ, and the first row that fits counts."""
    flags = launch_for(model).vllm

    assert (flags.tools, flags.reasoning) == (tools, reasoning)


@pytest.mark.parametrize(
    "weights",
    [
        "/models/Qwen3-Coder-30B-A3B-Instruct",
        "/home/ada/.cache/huggingface/hub/models--Qwen--Qwen3-Coder-30B-A3B-Instruct/snapshots/0a1b2c",
        "unsloth/qwen3-coder-30b-a3b-instruct",
    ],
)
def test_a_folder_is_taken_for_the_model_that_it_is_named_after(weights: str) -> None:
    """Machines without a network have their weights in folders."""
    assert launch_for(weights).vllm.tools == "qwen3_coder"


# --- the command line ------------------------------------------------------------------------------------------------


def test_vllm_is_told_who_where_and_how_much(tmp_path: Path) -> None:
    """Everything that the row says reaches the engine, in its own words."""
    told = command(
        orders(tmp_path, gpus=(2, 3), context_tokens=32_768, slots=16, model="qwen3"), "/opt/vllm/bin/vllm", 41234
    )

    assert told[:3] == ["/opt/vllm/bin/vllm", "serve", "Qwen/Qwen3-8B"]
    expected = {
        "--served-model-name": "qwen3",
        "--host": "127.0.0.1",
        "--port": "41234",
        "--tensor-parallel-size": "2",
        "--max-model-len": "32768",
        "--max-num-seqs": "16",
        "--tool-call-parser": "hermes",
        "--reasoning-parser": "qwen3",
    }
    assert {name: value_of(name, told) for name in expected} == expected
    assert "--enable-auto-tool-choice" in told


def test_sglang_is_told_the_same_in_its_words(tmp_path: Path) -> None:
    """The two spell almost nothing alike."""
    told = command(orders(tmp_path, engine="sglang", gpus=(0,), context_tokens=8192, slots=8), "sglang", 41234)

    assert told[:4] == ["sglang", "serve", "--model-path", "Qwen/Qwen3-8B"]
    assert value_of("--context-length", told) == "8192"
    assert value_of("--max-running-requests", told) == "8"
    assert value_of("--tool-call-parser", told) == "qwen25"
    assert "--enable-auto-tool-choice" not in told


def test_a_context_that_nobody_set_is_the_weights_own(tmp_path: Path) -> None:
    """The engine knows it better than we do."""
    assert "--max-model-len" not in command(orders(tmp_path), "vllm", 1)


def test_the_operators_arguments_come_last_and_so_they_win(tmp_path: Path) -> None:
    """Whoever knows their machine must be able to overrule a row."""
    made = orders(tmp_path, gpus=(0, 1), arguments=("--tensor-parallel-size", "1", "--reasoning-parser", "step3"))

    told = command(made, "vllm", 8000)

    assert told[-4:] == list(made.arguments)
    read = parse("vllm", told[2:])
    assert (read.tensor_parallel_size, read.reasoning_parser) == (1, "step3")


@pytest.mark.parametrize(
    ("engine", "program", "beginning"),
    [
        ("vllm", "/opt/vllm/bin/python3", ["-m", "vllm.entrypoints.cli.main", "serve", "Qwen/Qwen3-8B"]),
        ("sglang", "/opt/sglang/bin/python", ["-m", "sglang.launch_server", "--model-path", "Qwen/Qwen3-8B"]),
    ],
)
def test_the_executable_may_be_the_python_of_the_engines_environment(
    engine: Kind, program: str, beginning: list[str], tmp_path: Path
) -> None:
    """Older releases of SGLang have no program of their own."""
    made = orders(tmp_path, engine=engine, executable=program)

    assert command(made, program, 8000)[1:5] == beginning
    assert version_command(made, program)[1] == "-c"


@pytest.mark.parametrize(
    ("environment", "cards", "shards"),
    [
        ({}, ("nvidia0", "nvidia1", "nvidia2", "nvidia3", "nvidiactl", "nvidia-uvm"), 4),
        ({"CUDA_VISIBLE_DEVICES": "4,5"}, ("nvidia0", "nvidia1", "nvidia2"), 2),
        ({}, (), 1),
    ],
)
def test_without_gpus_in_the_row_the_weights_are_spread_over_all_that_are_seen(
    environment: dict[str, str], cards: Sequence[str], shards: int, tmp_path: Path
) -> None:
    """Left to itself vLLM takes one card, and the others stay idle."""
    (tmp_path / "dev").mkdir()
    for card in cards:
        (tmp_path / "dev" / card).touch()

    assert orders(tmp_path, environment).shards == shards


# --- keys and the environment ----------------------------------------------------------------------------------------


def test_no_key_stands_on_a_command_line(tmp_path: Path) -> None:
    """`ps` shows it to everybody. vLLM reads a variable; SGLang has none, but reads options from a file."""
    vllm, sglang = orders(tmp_path), orders(tmp_path, engine="sglang")

    assert child_environment(vllm, "sk-1")["VLLM_API_KEY"] == "sk-1"
    assert "VLLM_API_KEY" not in child_environment(sglang, "sk-1")
    key_file = value_of("--config", command(sglang, "sglang", 1))
    assert re.fullmatch(r"gpu-[0-9a-f]{8}\.yaml", Path(key_file or "").relative_to(tmp_path / "run").as_posix())
    for made in (vllm, sglang):
        assert made.has_key
        assert "--api-key" not in command(made, made.engine, 1)


def test_sglang_with_an_options_file_of_the_operator_has_no_key(tmp_path: Path) -> None:
    """It takes one such file: theirs is worth more than ours, and the start says what that means."""
    made = orders(tmp_path, engine="sglang", arguments=("--config", "mine.yaml"))

    assert not made.has_key
    assert command(made, "sglang", 1).count("--config") == 1


def test_only_what_an_engine_needs_of_our_environment_reaches_it(tmp_path: Path) -> None:
    """Keys of the service and of upstreams live there; a child that executes strangers' code must not see them."""
    kept = {"PATH": "/bin", "HF_HOME": "/hf", "NCCL_DEBUG": "WARN", "VLLM_USE_MODELSCOPE": "1", "https_proxy": "p:1"}
    secret = {
        "DASHSCOPE_API_KEY": "sk-a",
        "OPENAI_API_KEY": "sk-b",
        "HANLIN_API_KEY": "sk-c",
        "VLLM_API_KEY": "sk-d",
        "AWS_SECRET_ACCESS_KEY": "e",
        "PYTHONPATH": "/somewhere",
    }

    made = orders(tmp_path, {**kept, **secret}, gpus=(1,))

    environment = child_environment(made)
    assert kept.items() <= environment.items()
    assert not secret.keys() & environment.keys()
    assert environment["CUDA_VISIBLE_DEVICES"] == "1"
    assert "sk-" not in repr(made)


def test_vllm_does_not_report_home_unless_the_operator_wants_it(tmp_path: Path) -> None:
    """It sends usage statistics by default; a service that people run for themselves is silent."""
    assert child_environment(orders(tmp_path))["VLLM_NO_USAGE_STATS"] == "1"
    assert child_environment(orders(tmp_path, {"VLLM_NO_USAGE_STATS": "0"}))["VLLM_NO_USAGE_STATS"] == "0"


# --- rows that make no sense -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"engine": ""}, "has no engine: set `engine` to vllm or sglang"),
        ({"weights": ""}, "engine 'vllm' needs weights: name a repository"),
        ({"url": "http://127.0.0.1:8000/v1"}, "has both `engine` and `url`"),
        ({"upstream": "deepseek"}, "has both `engine` and `upstream`"),
        ({"key_env": "MY_KEY"}, "has both `engine` and `key_env`"),
        ({"weights": "/no/such/folder"}, "weights: /no/such/folder does not exist"),
        ({"weights": "--trust-remote-code"}, "are no repository"),
        ({"gpus": (0, 0)}, "gpus \\[0, 0\\] names one twice"),
        ({"arguments": ("--api-key", "sk-x")}, "leave out `--api-key`: Hanlin sets how the engine is reached"),
        ({"arguments": ("--served_model_name=x",)}, "leave out `--served_model_name`"),
        ({"arguments": ("--ssl-keyfile", "k")}, "leave out `--ssl-keyfile`"),
    ],
)
def test_a_row_that_cannot_be_is_refused_with_its_name(fields: dict[str, object], said: str, tmp_path: Path) -> None:
    """At the start, in the operator's own words: not as a crash of an engine minutes later."""
    with pytest.raises(StartupError, match=rf"^\[\[deployment\]\] 'gpu': .*{said}"):
        orders(tmp_path, {}, **fields)


def test_the_name_of_a_row_is_safe_as_a_file(tmp_path: Path) -> None:
    """Names are free text; files are not."""
    assert orders(tmp_path, name="../my gpu").log_file == tmp_path / "logs" / ".._my_gpu.log"


# --- releases --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("0.33.0", (0, 33, 0)),
        ("0.33.1rc2.dev7+cu129", (0, 33, 1)),
        ("INFO 11-26 20:16:12 [__init__.py:216] CUDA 12.8\n0.9.0.1\n", (0, 9, 0)),
        ("sglang version: 0.5.23\ngit revision: 1234567\n", (0, 5, 23)),
        ("1.2\n", (1, 2, 0)),
        ("Traceback (most recent call last):\n", None),
    ],
)
def test_a_release_is_found_in_what_an_engine_prints(said: str, version: tuple[int, ...] | None) -> None:
    """vLLM logs to the same stream before it answers."""
    assert version_in(said) == version


def test_a_release_that_cannot_run_the_weights_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """Otherwise it ends after minutes, in a traceback about a parser or an architecture."""
    made = orders(tmp_path, weights="deepseek-ai/DeepSeek-V3.2", executable="/opt/vllm/bin/vllm")

    assert too_old(made, (0, 18, 0)) is None
    assert str(too_old(made, (0, 17, 2))) == (
        "deepseek-ai/DeepSeek-V3.2 needs vLLM 0.18.0 or newer, /opt/vllm/bin/vllm is 0.17.2: "
        '`pip install -U "vllm>=0.18.0"` in its environment'
    )


def test_a_program_that_is_not_there_comes_with_its_installation(tmp_path: Path) -> None:
    """In an environment of its own: its libraries and ours must not meet."""
    said = str(missing(orders(tmp_path, engine="sglang")))

    assert "python -m venv /opt/sglang && /opt/sglang/bin/pip install sglang" in said
    assert 'executable = "/opt/sglang/bin/sglang"' in said


def test_weights_whose_template_knows_no_tools_are_said_to(tmp_path: Path) -> None:
    """The engine starts and answers, and never calls a tool: nobody would know why."""
    made = orders(tmp_path, weights="deepseek-ai/DeepSeek-V3.1")

    assert "tool_chat_template_deepseekv31.jinja" in str(lacks_template(made))
    assert lacks_template(replace(made, arguments=("--chat-template", "t.jinja"))) is None
    assert lacks_template(orders(tmp_path)) is None


def test_an_engine_that_reads_no_calls_is_offered_no_tools(tmp_path: Path) -> None:
    """vLLM answers 400 to them; our own refusal says what to do."""
    assert engine_profile(orders(tmp_path)).tools
    assert not engine_profile(orders(tmp_path, weights="somebody/made-up")).tools
    assert engine_profile(orders(tmp_path, weights="s/m", arguments=("--tool-call-parser", "xlam"))).tools


# --- logs and what they mean -----------------------------------------------------------------------------------------


def test_a_log_is_kept_twice_its_bound_at_most_and_for_its_owner_only(tmp_path: Path) -> None:
    """An engine that complains a thousand times a second must not fill the disk; prompts may stand in it."""
    log = LogFile(tmp_path / "logs" / "gpu.log", limit_bytes=1000)

    for number in range(1000):
        log.write(f"line {number}")

    files = sorted((tmp_path / "logs").iterdir())
    assert [file.name for file in files] == ["gpu.log", "gpu.log.1"]
    assert max(file.stat().st_size for file in files) < 1100
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    assert files[0].read_text().endswith("line 999\n")


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk must not end an engine that answers; it is said once."""
    (tmp_path / "logs").touch()
    log = LogFile(tmp_path / "logs" / "gpu.log")

    log.write("one")
    log.write("two")

    assert len(caplog.records) == 1


def test_the_lines_that_speak_of_an_error_are_told_first() -> None:
    """Engines end with the same general sentence; the reason stands above it."""
    lines = [
        "loading",
        "torch.OutOfMemoryError: CUDA out of memory",
        *["at line"] * 50,
        "RuntimeError: see above",
        "bye",
    ]

    assert telling(lines) == ("torch.OutOfMemoryError: CUDA out of memory", "RuntimeError: see above")
    assert telling(["a", "b", "c", "d"]) == ("b", "c", "d")


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB", "set a smaller `context_tokens`"),
        ("vllm: error: unrecognized arguments: --nope", "correct `arguments`"),
        ("pass the argument `trust_remote_code=True`", "`--trust-remote-code`"),
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error", "HF_TOKEN"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("RuntimeError: No CUDA GPUs are available", "nvidia-smi"),
        ("something else", ""),
    ],
)
def test_known_words_come_with_what_to_do(line: str, remedy: str) -> None:
    """A traceback of PyTorch is no help to somebody who wants their model back."""
    said = advice(["before", line, "after"])

    assert remedy in said
    assert bool(said) == bool(remedy)
