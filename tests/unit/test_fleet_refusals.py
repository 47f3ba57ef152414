"""What does not fit of deployments and routes is refused: by its row, with the remedy, in both languages."""

from collections.abc import Mapping
from typing import Any

import pytest

from hanlin.errors import StartupError
from hanlin.service.fleet import stated
from hanlin.settings import DeploymentRow, RouteRow, Settings
from tests.values import catalogue_of, model

URL = "http://127.0.0.1:9/v1"


def row(name: str = "gpu", **fields: Any) -> DeploymentRow:
    where = {} if "engine" in fields or "upstream" in fields else {"url": URL}
    return DeploymentRow(**{"name": name, **where, **fields})


def route(**fields: Any) -> RouteRow:
    return RouteRow(**{"names": ("qwen-plus",), "deployments": ("gpu",), **fields})


REFUSED: Mapping[str, tuple[Settings, str, str]] = {
    "a name twice": (
        Settings(deployment=(row(), row())),
        "[[deployment]]: the name 'gpu' is used twice. Give each its own",
        "名称 'gpu' 重复。请为每个部署使用不同的名称",
    ),
    "no name": (
        Settings(deployment=(row(""),)),
        "[[deployment]] '': needs a name of its own",
        "[[deployment]] ''：需要一个名称",
    ),
    "our own name": (
        Settings(deployment=(row("embedded"),)),
        "'embedded' is what routes call Hanlin's own weights. Choose another name",
        "'embedded' 专指 Hanlin 内置的权重。请换一个名称",
    ),
    "nothing to reach": (
        Settings(deployment=(row(url=""),)),
        "'gpu': says neither where it is nor what to start, or both. Give one of url, upstream and engine",
        "请在 url、upstream、engine 中选择其一",
    ),
    "two things to reach": (
        Settings(deployment=(row(engine="vllm", weights="Qwen/Qwen3-8B", url=URL),)),
        "[[deployment]] 'gpu': says neither",
        "[[deployment]] 'gpu'：未说明地址",
    ),
    "an upstream and an engine": (
        Settings(deployment=(row(engine="vllm", weights="Qwen/Qwen3-8B", upstream="ollama"),)),
        "[[deployment]] 'gpu': says neither",
        "[[deployment]] 'gpu'：未说明地址",
    ),
    "an engine without weights": (
        Settings(deployment=(row(engine="vllm"),)),
        "[[deployment]] 'gpu': engine 'vllm' needs weights",
        "[[deployment]] 'gpu'：engine 'vllm' 需要 weights",
    ),
    "no address": (
        Settings(deployment=(row(url="127.0.0.1:8000"),)),
        "[[deployment]] 'gpu': url: '127.0.0.1:8000' is not an http(s) address. Write http://host:port/v1",
        "请写成 http://host:port/v1",
    ),
    "half an address": (
        Settings(deployment=(row(url="http://["),)),
        "[[deployment]] 'gpu': url: ",
        "[[deployment]] 'gpu'：url：",
    ),
    "an unknown upstream": (
        Settings(deployment=(row(upstream="depseek"),)),
        "[[deployment]] 'gpu': 'depseek' is no known upstream. Did you mean 'deepseek'?",
        "[[deployment]] 'gpu'：未知的上游 'depseek'。是否想用 'deepseek'？",
    ),
    "an upstream without a key": (
        Settings(deployment=(row(upstream="deepseek"),)),
        "needs a key. `export DEEPSEEK_API_KEY=…`",
        "需要密钥。请 `export DEEPSEEK_API_KEY=…`",
    ),
    "an unknown profile": (
        Settings(deployment=(row(profile="vlm"),)),
        "[[deployment]] 'gpu': there is no profile 'vlm'. Known: deepseek, ",
        "[[deployment]] 'gpu'：没有 profile 'vlm'。已有：deepseek, ",
    ),
    "a key that is not there": (
        Settings(deployment=(row(key_env="NO_KEY"),)),
        "[[deployment]] 'gpu': NO_KEY is not set: `export NO_KEY=…`",
        "未设置 NO_KEY：请 `export NO_KEY=…`",
    ),
    "a pattern of nothing": (
        Settings(deployment=(row(serves=("qwen-plus", "qwne-*")),)),
        "[[deployment]] 'gpu': serves 'qwne-*', which matches no name. `hanlin models` lists them",
        "serves 中的 'qwne-*' 不匹配任何名称。`hanlin models` 会列出全部名称",
    ),
    "a route of nothing": (
        Settings(deployment=(row(),), route=(route(names=("qwen-plus", "qwne-*")),)),
        "[[route]] qwen-plus, qwne-*: 'qwne-*' matches no name. `hanlin models` lists them",
        "'qwne-*' 不匹配任何名称",
    ),
    "a route to nowhere": (
        Settings(deployment=(row(),), route=(route(deployments=("gpu", "cpu")),)),
        "[[route]] qwen-plus: there is no [[deployment]] 'cpu'. Known: embedded, gpu",
        "没有名为 'cpu' 的 [[deployment]]。已有：embedded, gpu",
    ),
    "a fallback to nowhere": (
        Settings(deployment=(row(),), route=(route(fallbacks=("cpu",)),)),
        "there is no [[deployment]] 'cpu'",
        "没有名为 'cpu' 的 [[deployment]]",
    ),
    "a route without names": (
        Settings(deployment=(row(),), route=(route(names=()),)),
        "names and deployments must not be empty",
        "names 与 deployments 不能为空",
    ),
    "a route without deployments": (
        Settings(deployment=(row(),), route=(route(deployments=()),)),
        "[[route]] qwen-plus: names and deployments must not be empty",
        "names 与 deployments 不能为空",
    ),
    "a deployment twice in a route": (
        Settings(deployment=(row(),), route=(route(fallbacks=("gpu",)),)),
        "[[route]] qwen-plus: 'gpu' is named twice. Name each of deployments and fallbacks once",
        "'gpu' 重复",
    ),
    "weights of nothing": (
        Settings(deployment=(row(),), route=(route(weights=(1,)),)),
        '[[route]] qwen-plus: weights go with choose = "weighted", one for each of the deployments',
        '[[route]] qwen-plus：weights 仅用于 choose = "weighted"',
    ),
    "too few weights": (
        Settings(
            deployment=(row("a"), row("b")),
            route=(route(deployments=("a", "b"), choose="weighted", weights=(1,)),),
        ),
        "weights go with",
        "与 deployments 一一对应",
    ),
    "an upstream flag that is none": (
        Settings(upstream=("nobody",)),
        "--upstream nobody: 'nobody' is no known upstream",
        "--upstream nobody：未知的上游 'nobody'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_does_not_fit_is_refused_with_its_row_and_the_remedy(
    case: str, language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is built: an operator reads one sentence, and knows which line to change."""
    monkeypatch.setenv("HANLIN_LANG", language)
    settings, *words = REFUSED[case]

    with pytest.raises(StartupError) as problem:
        stated(settings, catalogue_of(model()), {"KEY": "sk-1"})

    assert words[language == "zh"] in str(problem.value)
