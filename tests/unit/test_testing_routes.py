"""The fake engine's endpoints, without a socket: a request goes in as a value, an answer is played here."""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from hanlin.testing import Record, Rule, Setup, embeddings
from hanlin.testing.connection import Request
from hanlin.testing.records import Records
from hanlin.testing.routes import Engine


def played(engine: Engine, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    """Return status and body of the answer to a request; a body that is bytes is sent as it is."""
    raw = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
    answer = engine.respond(Request(method, path, headers, raw))
    data = b""
    for step in answer.steps:
        answer.note(step)
        data += step.data
        if step.end is not None:
            answer.end("failed" if step.end == "failed" else "done")
    head, _, content = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), content


def asked(engine: Engine, question: str = "你好", **extra: Any) -> tuple[int, Any]:
    body = {"model": "qwen-plus", "messages": [{"role": "user", "content": question}], **extra}
    status, content = played(engine, "POST", "/v1/chat/completions", body)
    return status, msgspec.json.decode(content)


def rows(engine: Engine) -> list[Record]:
    return msgspec.json.decode(played(engine, "GET", "/requests")[1], type=list[Record])


def text_of(answer: Any) -> str:
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize("prefix", ["/v1", "", "/compatible-mode/v1"])
def test_chat_is_served_under_every_usual_prefix(prefix: str) -> None:
    """OpenAI's, llama.cpp's and Model Studio's clients build their URLs differently."""
    body = {"model": "m", "messages": []}

    assert played(Engine(Setup()), "POST", f"{prefix}/chat/completions", body)[0] == 200


def test_the_first_rule_that_takes_a_request_answers_it() -> None:
    """Special cases go first, a catch-all last."""
    engine = Engine(
        Setup(rule=(Rule(contains="天气", text="晴"), Rule(text="不知道"), Rule(contains="你好", text="never")))
    )

    assert text_of(asked(engine, "杭州天气")[1]) == "晴"
    assert text_of(asked(engine, "你好")[1]) == "不知道"
    assert [row.rule for row in rows(engine)] == [0, 1]


def test_a_rule_with_times_falls_to_the_next_one_afterwards() -> None:
    """Fail twice, then work: what a retry needs."""
    engine = Engine(Setup(rule=(Rule(status=503, times=2), Rule(text="好"))))

    assert [asked(engine)[0] for _ in range(3)] == [503, 503, 200]
    assert [row.state for row in rows(engine)] == ["failed", "failed", "done"]


def test_rules_that_are_replaced_count_anew() -> None:
    """Every test of a suite puts its own rules into the one engine that they share."""
    engine = Engine(Setup())
    rules = msgspec.json.encode([Rule(text="好", times=1)])

    for _ in range(2):
        assert played(engine, "PUT", "/rules", rules)[0] == 200
        assert text_of(asked(engine)[1]) == "好"

    assert played(engine, "GET", "/rules")[1] == b'[{"times":1,"text":"\xe5\xa5\xbd"}]'


def test_rules_with_a_mistake_are_refused_and_the_old_ones_stay() -> None:
    """Half of a set of rules would be worse than none."""
    engine = Engine(Setup(rule=(Rule(text="旧"),)))

    status, content = played(engine, "PUT", "/rules", [{"text": "新"}, {"txt": "?"}])

    assert status == 400
    assert b"txt" in content
    assert text_of(asked(engine)[1]) == "旧"


def test_a_row_tells_what_was_asked_and_how_it_went() -> None:
    """It is the only witness of what reached the engine."""
    engine = Engine(Setup(rule=(Rule(text="你好吗"),)), now=lambda: 1000.5)
    body = {"model": "m", "messages": [], "seed": 7}

    _, content = played(
        engine, "POST", "/v1/chat/completions", body, authorization="Bearer sk-secret", cookie="s", accept="*/*"
    )

    (row,) = rows(engine)
    assert row.id == msgspec.json.decode(content)["id"]
    assert row.path == "/v1/chat/completions"
    assert row.body == body
    assert row.headers == {"authorization": "Bearer ••••", "cookie": "••••", "accept": "*/*"}
    assert row.started_at == 1000.5
    assert (row.state, row.rule, row.tokens_made, row.chunks_sent) == ("done", 0, 3, 3)


def test_requests_are_forgotten_on_demand() -> None:
    """The next test begins with an empty list."""
    engine = Engine(Setup())
    asked(engine)

    played(engine, "DELETE", "/requests")

    assert rows(engine) == []


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"messages": 1}'])
def test_a_body_that_is_no_request_is_refused_and_remembered(body: bytes) -> None:
    """What a client really sent is what its author needs to see."""
    engine = Engine(Setup())

    status, _ = played(engine, "POST", "/v1/chat/completions", body)

    assert status == 400
    assert [row.state for row in rows(engine)] == ["failed"]
    assert rows(engine)[0].body is not None


def test_a_prompt_beyond_the_context_is_refused_with_both_counts() -> None:
    """As llama.cpp's server does; a rule is not asked, and not used up."""
    engine = Engine(Setup(style="llama", context_tokens=30, rule=(Rule(text="好", times=1),)))

    status, answer = asked(engine, "你" * 50)

    assert status == 400
    assert answer["error"]["type"] == "exceed_context_size_error"
    assert answer["error"]["n_prompt_tokens"] > answer["error"]["n_ctx"] == 30
    assert text_of(asked(engine)[1]) == "好"


def test_an_engine_that_loads_answers_503_until_it_is_ready() -> None:
    """Except to the test that watches it."""
    clock = [100.0]
    engine = Engine(Setup(style="llama", loading_s=2.0), now=lambda: clock[0])

    clock[0] = 101.9
    assert played(engine, "GET", "/health")[0] == 503
    status, answer = asked(engine)
    assert status == 503
    assert answer["error"] == {"code": 503, "message": "Loading model", "type": "unavailable_error"}
    assert [row.state for row in rows(engine)] == ["failed"]
    clock[0] = 102.0
    assert played(engine, "GET", "/health") == (200, b'{"status":"ok"}')


def test_the_llama_manner_names_its_own_file_as_model() -> None:
    """Whatever was asked for: a client must not rely on the echo."""
    assert asked(Engine(Setup(style="llama")))[1]["model"] == "m.gguf"
    assert asked(Engine(Setup(style="llama", models=("qwen.gguf",))))[1]["model"] == "qwen.gguf"
    assert asked(Engine(Setup()))[1]["model"] == "qwen-plus"


def test_a_rule_may_speak_in_the_other_manner() -> None:
    """One engine, both kinds of upstream."""
    engine = Engine(Setup(rule=(Rule(contains="llama", style="llama"),)))

    assert asked(engine, "llama")[1]["system_fingerprint"] == "b0"
    assert asked(engine, "openai")[1]["system_fingerprint"] is None


def test_a_rule_that_cannot_be_carried_out_says_why() -> None:
    """Instead of an answer that proves nothing."""
    status, answer = asked(Engine(Setup(rule=(Rule(json_schema=True),))))

    assert status == 400
    assert "neither a schema nor tools" in answer["error"]["message"]


def test_what_goes_wrong_in_one_answer_is_an_answer_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A schema that is no schema must not take the engine away from the other tests."""
    engine = Engine(Setup(rule=(Rule(json_schema=True),)))

    status, _ = asked(engine, json_schema={"type": "array", "minItems": "three"})

    assert status == 500
    assert [row.state for row in rows(engine)] == ["failed"]
    assert "TypeError" in capsys.readouterr().err


def told(engine: Engine, method: str, path: str, body: Any = None) -> Any:
    status, content = played(engine, method, path, body)
    assert status == 200
    return msgspec.json.decode(content)


def test_the_tokenizer_is_served() -> None:
    """Hanlin counts prompts with these before it sends them."""
    engine = Engine(Setup())

    ids = told(engine, "POST", "/tokenize", {"content": "你好a"})["tokens"]
    assert ids == [0xE4BDA0, 0xE5A5BD, 0x61]
    assert told(engine, "POST", "/detokenize", {"tokens": ids}) == {"content": "你好a"}
    assert told(engine, "POST", "/tokenize", {"content": "a", "with_pieces": True}) == {
        "tokens": [{"id": 97, "piece": "a"}]
    }


def test_the_prompt_of_a_conversation_is_served_and_counts_as_usage_says() -> None:
    """`/apply-template` and `/tokenize` together predict `prompt_tokens`."""
    engine = Engine(Setup())
    messages = [{"role": "user", "content": "你好"}]

    prompt = told(engine, "POST", "/apply-template", {"messages": messages})["prompt"]

    count = len(told(engine, "POST", "/tokenize", {"content": prompt})["tokens"])
    assert asked(engine)[1]["usage"]["prompt_tokens"] == count


def test_the_template_is_the_one_of_the_set_up() -> None:
    """Qwen3's takes the switch for thinking; what it writes is what usage counts."""
    engine = Engine(Setup(template="qwen3"))
    off: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}
    messages = [{"role": "user", "content": "你好"}]

    prompt = told(engine, "POST", "/apply-template", {"messages": messages, **off})["prompt"]

    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    count = len(told(engine, "POST", "/tokenize", {"content": prompt})["tokens"])
    assert asked(engine, **off)[1]["usage"]["prompt_tokens"] == count
    assert "<think>" not in told(engine, "POST", "/apply-template", {"messages": messages})["prompt"]
    assert "<think>" not in told(Engine(Setup()), "POST", "/apply-template", {"messages": messages, **off})["prompt"]


def test_llama_continues_a_last_message_of_the_assistant() -> None:
    """As b11549 does, in its templates and over chat; others close the turn and open another."""
    messages = [{"role": "user", "content": "静夜思"}, {"role": "assistant", "content": "床前明月光，"}]

    def prompt(engine: Engine) -> str:
        return str(told(engine, "POST", "/apply-template", {"messages": messages})["prompt"])

    assert prompt(Engine(Setup(style="llama"))).endswith("<|im_start|>assistant\n床前明月光，")
    assert prompt(Engine(Setup())).endswith("床前明月光，<|im_end|>\n<|im_start|>assistant\n")


def test_the_engine_tells_about_itself() -> None:
    """Readiness, models, slots and counters, as far as a client may look at them."""
    engine = Engine(
        Setup(style="llama", models=("a.gguf", "b.gguf"), slots=2, context_tokens=512, rule=(Rule(text="你好"),))
    )
    answer = asked(engine)[1]
    running = engine.respond(Request("POST", "/v1/chat/completions", {}, b'{"messages":[]}'))

    assert [row["id"] for row in told(engine, "GET", "/v1/models")["data"]] == ["a.gguf", "b.gguf"]
    assert told(engine, "GET", "/props")["default_generation_settings"]["n_ctx"] == 512
    assert [slot["is_processing"] for slot in told(engine, "GET", "/slots")] == [True, False]
    metrics = played(engine, "GET", "/metrics")[1].decode()
    assert "llamacpp:tokens_predicted_total 2\n" in metrics
    assert "llamacpp:requests_processing 1\n" in metrics
    assert answer["usage"]["completion_tokens"] == 2
    assert isinstance(running.steps, Iterator)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/rerank", 404),
        ("POST", "/tokenize", 400),
        ("POST", "/detokenize", 400),
    ],
)
def test_what_is_not_served_is_refused(method: str, path: str, status: int) -> None:
    """With a status that says which mistake it was."""
    assert played(Engine(Setup()), method, path, {"tokens": ["x"]} if path == "/detokenize" else b"{")[0] == status


def test_rows_and_bodies_are_bounded() -> None:
    """An engine serves benchmarks for hours."""
    records = Records()

    for nth in range(10_050):
        records.add(Record(id=str(nth), path="/", body="x", headers={}, started_at=0.0), 10_000)

    kept = records.rows()
    assert len(kept) == 10_000
    assert kept[0].id == "50"
    with_body = [row for row in kept if row.body is not None]
    assert len(with_body) == 64 * 1024 * 1024 // 10_000
    assert with_body[-1] is kept[-1]


def test_only_the_first_end_of_an_answer_counts() -> None:
    """A connection is lost after every answer, also after one that was whole."""
    record = Record(id="1", path="/", body=None, headers={}, started_at=0.0)

    record.end("done")
    record.end("cancelled")

    assert record.state == "done"
    assert record.cancelled_after_s is None


def test_vectors_are_made_of_the_texts_themselves() -> None:
    """The same text has the same vector in every process; lengths, encodings and counts are as asked."""
    engine = Engine(Setup())
    body = {"model": "m", "input": ["你好", "hello"], "dimensions": 8}

    status, content = played(engine, "POST", "/v1/embeddings", body)
    floats = msgspec.json.decode(content)
    text = msgspec.json.decode(played(engine, "POST", "/v1/embeddings", {**body, "encoding_format": "base64"})[1])

    assert status == 200
    assert floats["data"][0]["embedding"] == embeddings.vector("你好", 8)
    assert text["data"][1]["embedding"] == embeddings.encoded(embeddings.vector("hello", 8))
    assert (floats["model"], floats["usage"]) == ("m", {"prompt_tokens": 4, "total_tokens": 4})
    assert played(engine, "POST", "/v1/embeddings", {"input": [1, 2]})[0] == 400
