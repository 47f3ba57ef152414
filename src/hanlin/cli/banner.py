"""What a start says once it is ready: where, with which key, what answers for which names, and calls to paste."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from hanlin.service.deployments import Serving
from hanlin.service.start import FirstKey
from hanlin.service.studio import Card
from hanlin.types import Served
from hanlin.words import say

# Names that people look for first; the rest are counted.
_KNOWN_FIRST = (
    *("qwen3-max", "qwen-plus", "qwen-flash", "qwen3-coder-plus", "deepseek-v3.2", "kimi-k2.6", "glm-5.2"),
    *("qwen3-vl-plus", "qwen3-omni-flash", "deepseek-r1", "qwen-mt-plus", "text-embedding-v4", "qwen-deep-research"),
)
_SHOWN = 6

STYLES = {
    Served.EXACT: "green",
    Served.CLOSEST: "green",
    Served.UPSTREAM: "cyan",
    Served.STAND_IN: "yellow",
    Served.UNAVAILABLE: "dim",
}


def meaning(served: Served) -> str:
    """Explain one of the five words to somebody who reads it for the first time."""
    return {
        Served.EXACT: say("the published weights of this name", "该名称公开的权重"),
        Served.CLOSEST: say("the published weights nearest to it", "与其最接近的公开权重"),
        Served.UPSTREAM: say("another server answers", "由其他服务回答"),
        Served.STAND_IN: say(
            "NOT these models: a small local one answers in their place, free of charge",
            "并非这些模型本身：由本机小模型代答，不计费",
        ),
        Served.UNAVAILABLE: say(
            "refused; `hanlin models show NAME` says what to do", "会被拒绝；办法见 `hanlin models show 名称`"
        ),
    }[served]


def show_banner(
    console: Console, url: str, key: FirstKey | None, cards: Sequence[Card], took_s: float, *, workers: int = 1
) -> None:
    """Print the whole statement. What is there to be copied is never wrapped, cut or framed."""
    console.print(_statement(url, key, cards, took_s, workers))
    if key is not None and key.shown:
        console.print(say("\nYour key, shown this once:", "\n你的密钥，仅显示这一次："))
        console.print(f"[bold green]export DASHSCOPE_API_KEY={key.shown.reveal()}[/]", soft_wrap=True)
    for name, code in _calls(url).items():
        console.print(f"\n[dim]# {name}[/]")
        console.print(Text(code), soft_wrap=True)
    console.print()


def _statement(url: str, key: FirstKey | None, cards: Sequence[Card], took_s: float, workers: int) -> Panel:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row(say("base URL", "基础地址"), f"[bold cyan]{url}[/]")
    facts.add_row(say("key", "密钥"), _key(key))
    if workers > 1:
        facts.add_row(say("served by", "应答进程"), say(f"{workers} worker processes", f"{workers} 个工作进程"))
    by = sorted({card.serving.deployment.fingerprint for card in cards if card.serving.deployment})
    facts.add_row(say("answered by", "实际应答"), escape(", ".join(by)))
    if fallbacks := sorted(_fallbacks(cards)):
        facts.add_row(say("falls back on", "失败时代答"), escape(", ".join(fallbacks)))
    title = say(f"翰林 Hanlin is ready [dim]({took_s:.1f} s)[/]", f"翰林 Hanlin 已就绪 [dim]({took_s:.1f} 秒)[/]")
    return Panel(Group(facts, Text(""), served_table(cards)), title=title, title_align="left", border_style="cyan")


def _fallbacks(cards: Sequence[Card]) -> set[str]:
    """Return what answers in the place of others when they cannot."""
    chats = [card.serving for card in cards if isinstance(card.serving, Serving)]
    return {target.deployment.fingerprint for serving in chats for target in serving.route.targets if target.fallback}


def served_table(cards: Sequence[Card]) -> Table:
    """Return what answers for which names, a row for each of the five words that occurs."""
    groups: dict[Served, list[str]] = defaultdict(list)
    for card in cards:
        groups[card.serving.served].append(card.name)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for served in Served:
        if names := groups.get(served):
            shown = [name for name in _KNOWN_FIRST if name in names]
            shown += [name for name in names if name not in shown]
            listed = ", ".join(shown[:_SHOWN])
            more = len(names) - _SHOWN
            if more > 0:
                listed += say(f" and {more} more", f" 等 {len(names)} 个")
            table.add_row(f"[{STYLES[served]}]{served}[/]", f"{escape(listed)}\n[dim]{meaning(served)}[/]")
    return table


def _key(key: FirstKey | None) -> str:
    if key is None:
        return say("the one of the first start, in $DASHSCOPE_API_KEY", "首次启动时的密钥，见 $DASHSCOPE_API_KEY")
    if key.shown:
        return say("made just now, see below", "刚刚生成，见下方")
    kept = say("adopted; only its hash is kept", "已采用，仅保存其哈希")
    return f"${key.source} (…{escape(key.hint)}), {kept}"


def _calls(url: str) -> Mapping[str, str]:
    """Return a call for each language, to be pasted as it is."""
    return {
        "curl": f"""curl {url}/chat/completions \\
  -H "Authorization: Bearer $DASHSCOPE_API_KEY" -H "Content-Type: application/json" \\
  -d '{{"model": "qwen-plus", "messages": [{{"role": "user", "content": "你是谁？"}}]}}'""",
        "Python": f"""import os
from openai import OpenAI
client = OpenAI(api_key=os.environ["DASHSCOPE_API_KEY"], base_url="{url}")
answer = client.chat.completions.create(model="qwen-plus", messages=[{{"role": "user", "content": "你是谁？"}}])
print(answer.choices[0].message.content)""",
        "JavaScript": f"""import OpenAI from "openai";
const openai = new OpenAI({{ apiKey: process.env.DASHSCOPE_API_KEY, baseURL: "{url}" }});
const messages = [{{ role: "user", content: "你是谁？" }}];
const answer = await openai.chat.completions.create({{ model: "qwen-plus", messages }});
console.log(answer.choices[0].message.content);""",
    }
