"""The real `hanlin` command as people and scripts run it: on a real service that stands in front of a fake engine."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from hanlin.service.neighbours import Neighbour, deployment_toml
from hanlin.testing import FakeEngine, Rule, free_port
from tests.cli import hanlin as quick
from tests.faulty_server import Fault, FaultyServer, faulty_server
from tests.service import KEY, Service, in_front_of

HANLIN = str(Path(sys.executable).with_name("hanlin"))
LIMIT_S = 60.0


def environment(home: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Return what the command sees: this home, this key, English, no colours, and nothing of the developer's own."""
    own = ("HANLIN_", "DASHSCOPE_", "LC_", "COLUMNS", "MODELSCOPE_", "HF_", "PIP_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return {**kept, "HANLIN_HOME": str(home), "HANLIN_LANG": "en", "DASHSCOPE_API_KEY": KEY, "NO_COLOR": "1", **more}


def hanlin(home: Path, *arguments: str, stdin: str | None = None, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    return subprocess.run(
        [HANLIN, *arguments], env=environment(home, more), capture_output=True, text=True, timeout=LIMIT_S, **given
    )


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as running:
        yield running


@pytest.fixture(scope="module")
def service(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("home"), config=in_front_of(engine, serves=["qwen*", "deepseek*"])) as running:
        yield running


@pytest.fixture
def home(service: Service, engine: FakeEngine) -> Path:
    """The home that the service runs on; its engine has forgotten what other tests asked."""
    engine.rules([])
    engine.forget_requests()
    return service.home


# One question


def test_the_answer_alone_goes_to_stdout_and_who_gave_it_to_stderr(home: Path, engine: FakeEngine) -> None:
    """So that `hanlin chat … > file` holds what was asked for, and nobody mistakes who answered."""
    engine.rules([Rule(contains="你是谁", chunks=("我是", "通义千问", "。"))])

    done = quick(home, "chat", "你是谁？")

    assert (done.returncode, done.stdout) == (0, "我是通义千问。\n")
    assert "upstream; fake" in done.stderr
    assert re.search(r"\d+ \+ \d+ tokens", done.stderr)


def test_words_need_no_quotes_and_options_go_with_the_question(home: Path, engine: FakeEngine) -> None:
    """What reaches the engine is what was asked, of the model that was named."""
    done = quick(home, "chat", "-m", "qwen3-max", "--system", "Be short.", "what", "is", "this")

    body = engine.requests()[0].body
    assert done.returncode == 0
    assert body["model"] == "qwen3-max"
    assert body["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "what is this"},
    ]


def test_what_is_piped_in_is_asked_alone_or_below_the_question(home: Path, engine: FakeEngine) -> None:
    """`git diff | hanlin chat "review this"` is what the command is for."""
    alone = hanlin(home, "chat", stdin="你好\n")
    below = hanlin(home, "chat", "翻译：", stdin="good morning\n")

    asked = [row.body["messages"][-1]["content"] for row in engine.requests()]
    assert alone.returncode == below.returncode == 0
    assert asked == ["你好", "翻译：\n\ngood morning"]


def test_a_script_gets_everything_about_an_answer_as_json(home: Path, engine: FakeEngine) -> None:
    """The text, who gave it, and what it cost."""
    engine.rules([Rule(text="四")])

    done = quick(home, "chat", "二加二", "--json")

    answer = json.loads(done.stdout)
    assert (answer["text"], answer["model"], answer["finish_reason"]) == ("四", "qwen-plus", "stop")
    assert answer["served_by"] == "upstream; fake"
    assert answer["usage"]["completion"] == 1


def test_the_answer_is_written_as_it_comes(home: Path, engine: FakeEngine) -> None:
    """A reader sees the first words while the engine still works on the rest."""
    engine.rules([Rule(chunks=("first", " second"), stall_after_chunks=1)])
    command = [HANLIN, "chat", "go on"]

    with subprocess.Popen(
        command,
        env=environment(home, {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        preexec_fn=_hear_ctrl_c,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == b"first"
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT_S) == 130

    engine.wait_for(lambda rows: rows[-1].state == "cancelled", timeout_s=30)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-m", "qwen99"), "The model `qwen99` does not exist"),
        (("-m", "text-embedding-v4"), "Unsupported model text-embedding-v4"),
        (("--base-url", "localhost:80"), "is not an address"),
        (("--api-key-env", "NO_SUCH_KEY"), "NO_SUCH_KEY is not set"),
    ],
)
def test_a_question_that_cannot_be_answered_fails_with_the_reason(
    arguments: tuple[str, ...], message: str, home: Path
) -> None:
    """On stderr and with exit code 1: stdout stays empty for whoever reads it."""
    done = quick(home, "chat", "你好", *arguments)

    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr


def test_an_answer_that_breaks_off_fails_after_what_came(home: Path, engine: FakeEngine) -> None:
    """Half an answer is worth having, and must not pass for a whole one."""
    engine.rules([Rule(chunks=("half", " of it"), cut_after_chunks=1)])

    done = quick(home, "chat", "你好")

    assert (done.returncode, done.stdout) == (1, "half\n")
    assert "broke off" in done.stderr


def test_a_wrong_key_is_told_the_services_own_remedy(home: Path) -> None:
    """It names the line that is missing."""
    done = quick(home, "chat", "你好", DASHSCOPE_API_KEY="sk-nobody-knows-this-one")

    assert done.returncode == 1
    assert "export DASHSCOPE_API_KEY" in done.stderr
    assert "sk-nobody-knows" not in done.stderr


def test_nothing_asked_and_no_terminal_is_wrong_usage(home: Path) -> None:
    """A conversation needs somebody to have it with."""
    done = quick(home, "chat")

    assert done.returncode == 2
    assert "hanlin chat --help" in done.stderr


def test_without_a_service_chat_says_how_to_start_one(tmp_path: Path) -> None:
    """In the user's language."""
    english = quick(tmp_path, "chat", "你好")
    chinese = hanlin(tmp_path, "chat", "你好", HANLIN_LANG="zh")

    assert english.returncode == chinese.returncode == 1
    assert "start it with `hanlin serve`" in english.stderr
    assert "请运行 `hanlin serve`" in chinese.stderr


def test_any_server_that_speaks_openai_chat_can_be_asked(tmp_path: Path, engine: FakeEngine) -> None:
    """Also one that is not ours and says nothing about who answers; proxies are for other machines."""
    engine.rules([Rule(thinking="想一想", text="你好！")])

    done = hanlin(
        tmp_path,
        "chat",
        "你好",
        "--base-url",
        engine.base_url,
        "-m",
        "m",
        HTTP_PROXY="http://127.0.0.1:9",
        http_proxy="",
    )

    assert (done.returncode, done.stdout) == (0, "你好！\n")


def test_a_server_that_is_something_else_is_recognised(tmp_path: Path) -> None:
    """A page of HTML is no answer."""
    with faulty_server() as other:
        other.serve("/v1/chat/completions", b"<html>hello</html>")

        done = quick(tmp_path, "chat", "你好", "--base-url", f"{other.url}/v1")

    assert done.returncode == 1
    assert done.stderr.startswith("✗ ")
    assert "Traceback" not in done.stderr


# A conversation


class Terminal:
    """The command on a terminal of its own: what is typed, and what is shown."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._bytes = b""
        self._seen = 0

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, text: str) -> None:
        """Return once the text is shown, after what was waited for before."""
        until = time.monotonic() + LIMIT_S
        while (found := self._shown.find(text, self._seen)) < 0:
            assert time.monotonic() < until, f"{text!r} did not come:\n{self._shown}"
            if select.select([self._descriptor], [], [], 0.2)[0]:
                self._bytes += os.read(self._descriptor, 65536)
        self._seen = found + len(text)

    @property
    def _shown(self) -> str:
        """Everything so far, without what moves the cursor and changes colours."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|[\x01\x02\r]", "", self._bytes.decode("utf-8", "replace"))


def _take_the_terminal() -> None:
    """Have Ctrl-C reach this process: it reaches those whose terminal it is."""
    _hear_ctrl_c()
    os.close(os.open(os.ttyname(0), os.O_RDWR))


def _hear_ctrl_c() -> None:
    """Take Ctrl-C as programs do, also where the tests themselves run in a script's background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def on_a_terminal(home: Path, *arguments: str) -> Iterator[tuple[Terminal, "subprocess.Popen[bytes]"]]:
    ours, theirs = pty.openpty()
    try:
        with subprocess.Popen(
            [HANLIN, *arguments],
            env=environment(home, {"TERM": "xterm"}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=_take_the_terminal,
        ) as process:
            os.close(theirs)
            theirs = -1
            try:
                yield Terminal(ours), process
            finally:
                process.kill()
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


def test_a_conversation_remembers_switches_models_and_ends(home: Path, engine: FakeEngine) -> None:
    """The prompt names the model, so that nobody forgets whom he asks."""
    engine.rules([Rule(contains="第一", text="answer one"), Rule(contains="第二", text="answer two")])

    with on_a_terminal(home, "chat") as (terminal, process):
        terminal.wait_for("qwen-plus › ")
        terminal.type("第一\n")
        terminal.wait_for("answer one")
        terminal.wait_for("upstream; fake")
        terminal.wait_for("qwen-plus › ")
        terminal.type("/model qwen3-max\n")
        terminal.wait_for("qwen3-max › ")
        terminal.type("第二\n")
        terminal.wait_for("answer two")
        terminal.wait_for("qwen3-max › ")
        terminal.type("\x04")
        assert process.wait(LIMIT_S) == 0

    first, second = (row.body for row in engine.requests())
    assert (first["model"], second["model"]) == ("qwen-plus", "qwen3-max")
    assert [message["content"] for message in second["messages"]] == ["第一", "answer one", "第二"]


def test_ctrl_c_stops_the_answer_and_not_the_conversation(home: Path, engine: FakeEngine) -> None:
    """The engine stops, too; what was said so far stays said."""
    engine.rules([Rule(contains="long", chunks=("begun", " rest"), stall_after_chunks=1), Rule(text="next answer")])

    with on_a_terminal(home, "chat") as (terminal, process):
        terminal.wait_for("qwen-plus › ")
        terminal.type("long\n")
        terminal.wait_for("begun")
        terminal.type("\x03")
        terminal.wait_for("stopped")
        terminal.wait_for("qwen-plus › ")
        terminal.type("and now\n")
        terminal.wait_for("next answer")
        terminal.type("/exit\n")
        assert process.wait(LIMIT_S) == 0

    engine.wait_for(lambda rows: rows[0].state == "cancelled", timeout_s=30)
    assert [message["content"] for message in engine.requests()[-1].body["messages"]] == ["long", "begun", "and now"]


def test_a_question_that_failed_can_be_asked_again(home: Path, engine: FakeEngine) -> None:
    """It is not kept: the model would see it twice."""
    engine.rules([Rule(status=400, times=1), Rule(text="worked")])

    with on_a_terminal(home, "chat") as (terminal, process):
        terminal.wait_for("qwen-plus › ")
        terminal.type("hello\n")
        terminal.wait_for("✗")
        terminal.wait_for("qwen-plus › ")
        terminal.type("hello\n")
        terminal.wait_for("worked")
        terminal.type("/exit\n")
        assert process.wait(LIMIT_S) == 0

    assert [len(row.body["messages"]) for row in engine.requests()] == [1, 1]


# Models


def test_the_list_says_what_the_running_service_answers(home: Path) -> None:
    """Not what the settings of this shell would lead to."""
    done = quick(home, "models", "--json")

    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["qwen-plus"]["here"]["served"] == "upstream"
    assert rows["qwen-plus"]["here"]["by"] == "fake"
    assert rows["glm-5.2"]["here"]["served"] == "unavailable"
    assert rows["qwen-plus"]["prices"]
    assert done.stderr == ""


def test_the_list_is_filtered_by_word_family_and_what_answers(home: Path) -> None:
    """Nobody reads 168 names."""
    words = quick(home, "models", "coder", "--served", "upstream", "--json")
    family = quick(home, "models", "list", "--family", "long", "--json")
    none = quick(home, "models", "no-such-thing")

    assert {row["here"]["served"] for row in json.loads(words.stdout)} == {"upstream"}
    assert all("coder" in json.dumps(row, ensure_ascii=False).lower() for row in json.loads(words.stdout))
    assert {row["family"] for row in json.loads(family.stdout)} == {"long"}
    assert (none.returncode, none.stdout) == (0, "")


def test_without_a_service_or_its_key_the_settings_tell_and_it_is_said(home: Path, tmp_path: Path) -> None:
    """A list that only looks like the truth would mislead."""
    preview = quick(tmp_path, "models", "show", "qwen-plus")
    locked_out = quick(home, "models", "show", "qwen-plus", DASHSCOPE_API_KEY="sk-nobody-knows-this-one")

    assert preview.returncode == locked_out.returncode == 0
    assert "stand-in" in preview.stdout
    assert "Nothing runs on this home" in preview.stderr
    assert "upstream" in locked_out.stdout
    assert "could not be asked" in locked_out.stderr


def test_one_name_is_shown_in_full_or_answered_with_its_likes(home: Path) -> None:
    """By its alias, too."""
    done = hanlin(home, "models", "show", "qwen3-max-2026-01-23", HANLIN_LANG="zh")
    wrong = quick(home, "models", "show", "qwen3-mxa")

    assert done.returncode == 0
    assert done.stdout.startswith("qwen3-max-2026-01-23")
    assert "每百万 token 价格" in done.stdout
    assert wrong.returncode == 1
    assert "did you mean" in wrong.stderr


def test_a_task_in_plain_words_is_answered_with_models_and_reasons(home: Path) -> None:
    """The acceptance example of the command."""
    done = hanlin(home, "models", "choose", "翻译合同", HANLIN_LANG="zh")
    data = json.loads(quick(home, "models", "choose", "翻译合同", "--limit", "1", "--json").stdout)

    assert done.stdout.startswith("1. qwen-mt-plus")
    assert "擅长翻译" in done.stdout
    assert "hanlin chat --model" in done.stdout
    assert [row["name"] for row in data] == ["qwen-mt-plus"]
    assert data[0]["reasons"]


# Keys


def test_a_key_is_made_used_listed_and_revoked_while_the_service_runs(home: Path) -> None:
    """`export DASHSCOPE_API_KEY=$(hanlin keys create)` has to work, so the key is all that stdout holds."""
    made = quick(home, "keys", "create", "--name", "laptop")
    key = made.stdout.strip()
    rows = {row["hint"]: row for row in json.loads(quick(home, "keys", "list", "--json").stdout)}
    row = rows[key[-4:]]

    used = quick(home, "chat", "你好", DASHSCOPE_API_KEY=key)
    revoked = quick(home, "keys", "revoke", row["id"])
    time.sleep(1.1)  # how long a service may believe what it has just read
    refused = quick(home, "chat", "你好", DASHSCOPE_API_KEY=key)

    assert re.fullmatch(r"sk-\w{48}\n", made.stdout)
    assert row["name"] == "laptop"
    assert (used.returncode, revoked.returncode, refused.returncode) == (0, 0, 1)
    listed = quick(home, "keys", "list").stdout
    assert "revoked" in listed
    assert key not in listed


def test_keys_of_a_home_that_was_never_used(tmp_path: Path) -> None:
    """Looking makes nothing; making makes the home."""
    fresh = tmp_path / "home"

    empty = quick(fresh, "keys", "list", "--json")
    existed = fresh.exists()
    made = json.loads(quick(fresh, "keys", "create", "--json").stdout)
    unknown = quick(fresh, "keys", "revoke", "key-none")

    assert json.loads(empty.stdout) == []
    assert not existed
    assert made["key"].startswith("sk-")
    assert unknown.returncode == 1
    assert "key-none" in unknown.stderr


# Settings


def test_the_settings_in_force_are_shown_with_their_origin_and_without_secrets(home: Path) -> None:
    """File, variable and default in one table."""
    done = quick(home, "config", "--json", HANLIN_API_KEY="sk-very-secret-key", HANLIN_SLOTS="2")

    shown = json.loads(done.stdout)
    rows = {row["name"]: row for row in shown["settings"]}
    assert shown["file"] == str(home / "hanlin.toml")
    assert (rows["slots"]["value"], rows["slots"]["origin"]) == (2, "HANLIN_SLOTS")
    assert rows["deployment"]["origin"] == shown["file"]
    assert "very-secret" not in done.stdout


def test_a_setting_that_does_not_fit_is_named(tmp_path: Path) -> None:
    """With exit code 1, as the start would end."""
    done = quick(tmp_path, "config", HANLIN_PORT="many")

    assert (done.returncode, done.stdout) == (1, "")
    assert "HANLIN_PORT" in done.stderr


# Weights

LARGE, SMALL = b"L" * 300_000, b"S" * 100_000
REPOSITORY = "Qwen/Qwen3-0.6B-GGUF"


@pytest.fixture
def hub() -> Iterator[FaultyServer]:
    """A ModelScope with one model in two quantisations."""
    files = {"Qwen3-0.6B-Q8_0.gguf": LARGE, "Qwen3-0.6B-Q4_K_M.gguf": SMALL}
    listed = [
        {"Path": path, "Size": len(body), "Sha256": sha256(body).hexdigest(), "Type": "blob"}
        for path, body in files.items()
    ]
    with faulty_server() as running:
        listing = f"/api/v1/models/{REPOSITORY}/repo/files?Revision=master&Recursive=true"
        running.serve(listing, json.dumps({"Data": {"Files": listed}}).encode())
        for path, body in files.items():
            running.serve(f"/models/{REPOSITORY}/resolve/master/{path}", body)
        yield running


def mirrors(hub: FaultyServer) -> dict[str, str]:
    return {"MODELSCOPE_ENDPOINT": hub.url, "HF_ENDPOINT": f"http://127.0.0.1:{free_port()}"}


def test_the_weights_of_a_name_are_chosen_fetched_and_listed(hub: FaultyServer, tmp_path: Path) -> None:
    """It says what it took and why, and what to do with it."""
    done = quick(tmp_path, "pull", "qwen3-0.6b", **mirrors(hub))
    listed = json.loads(quick(tmp_path, "pull", "--list", "--json").stdout)
    again = json.loads(quick(tmp_path, "pull", "qwen3-0.6b", "--json", **mirrors(hub)).stdout)

    assert done.returncode == 0, done.stderr
    assert "Qwen3-0.6B Q4_K_M" in done.stderr
    assert "of memory" in done.stderr
    assert "next: hanlin serve --weights qwen3-0.6b" in done.stdout
    assert [(row["name"], row["quantisation"], row["size_bytes"]) for row in listed] == [
        ("qwen3-0.6b", "Q4_K_M", len(SMALL))
    ]
    assert Path(again["path"]).read_bytes() == SMALL
    assert again["was_here"]


def test_another_quantisation_is_taken_when_it_is_asked_for_and_only_then(hub: FaultyServer, tmp_path: Path) -> None:
    """One that nobody published is refused, not replaced."""
    done = quick(tmp_path, "pull", "qwen3-0.6b", "-q", "q8_0", "--json", **mirrors(hub))
    refused = quick(tmp_path, "pull", "qwen3-0.6b", "-q", "Q2_K", **mirrors(hub))

    assert json.loads(done.stdout)["quantisation"] == "Q8_0"
    assert refused.returncode == 1
    assert "Q2_K is not published" in refused.stderr


def test_a_source_that_fails_is_one_line_and_the_end_says_what_to_try(hub: FaultyServer, tmp_path: Path) -> None:
    """Somebody behind a firewall has to learn which variables lead around it."""
    hub.serve(f"/models/{REPOSITORY}/resolve/master/Qwen3-0.6B-Q4_K_M.gguf", b"", always=Fault(status=404))

    done = quick(tmp_path, "pull", "qwen3-0.6b", **mirrors(hub))

    assert (done.returncode, done.stdout) == (1, "")
    assert any(line.startswith("· ModelScope") for line in done.stderr.splitlines())
    assert "HF_ENDPOINT" in done.stderr


def test_names_without_weights_and_no_name_at_all_are_told_apart(tmp_path: Path) -> None:
    """By message and by exit code."""
    unpublished = quick(tmp_path, "pull", "qwen-mt-plus")
    nothing = quick(tmp_path, "pull")

    assert (unpublished.returncode, nothing.returncode) == (1, 2)
    assert "never published" in unpublished.stderr


# The doctor


def test_the_doctor_finds_a_running_service_well(home: Path) -> None:
    """As data, for whoever watches over machines."""
    done = quick(home, "doctor", "--json")

    found = json.loads(done.stdout)
    checks = {finding["check"]: finding for finding in found["findings"]}
    assert done.returncode == 0, done.stdout
    assert found["worst"] in ("ok", "warn")
    assert checks["keys"]["level"] == checks["home"]["level"] == checks["port"]["level"] == "ok"


def test_the_doctor_ends_with_1_when_something_fails(tmp_path: Path, service: Service) -> None:
    """Here: the port is taken by the service of another home."""
    done = hanlin(
        tmp_path, "doctor", HANLIN_LANG="zh", HANLIN_PORT=str(service.port), HANLIN_EMBEDDED="false", COLUMNS="100"
    )

    assert done.returncode == 1
    assert "✗ 端口" in done.stdout
    assert f"hanlin serve --port {service.port + 1}" in done.stdout


# Scripts


def test_a_reader_that_leaves_early_ends_the_command_quietly(home: Path, engine: FakeEngine) -> None:
    """`hanlin models | head -1` is no error, whatever the exit code."""
    with subprocess.Popen(
        [HANLIN, "models", "list"],
        env=environment(home, {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        words = process.stderr.read().decode()
        process.wait(LIMIT_S)

    assert "Traceback" not in words


def test_the_table_that_the_doctor_shows_works_when_it_is_pasted(engine: FakeEngine, tmp_path: Path) -> None:
    """From the finding of a neighbour to an answer through it."""
    table = deployment_toml(Neighbour("Some server", engine.base_url, ("its-own-name",)))
    assert tomllib.loads(table)
    engine.rules([Rule(model="its-own-name", text="through the neighbour")])

    with Service(tmp_path, "--no-embedded", config=table) as service:
        done = hanlin(service.home, "chat", "你好")

    assert done.stdout == "through the neighbour\n"
