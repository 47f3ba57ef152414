"""`hanlin chat`: one question, or a conversation. Only the answer goes to stdout; who gave it stands on stderr."""

import contextlib
import dataclasses
import select
import sys
import time
from dataclasses import dataclass, field

from hanlin.cli import show
from hanlin.cli.client import Answer, Service, Target, Turn
from hanlin.cli.show import Failed
from hanlin.words import say

with contextlib.suppress(ImportError):
    # Its mere presence gives `input` a history and a line editor that knows the width of Chinese.
    import readline  # noqa: F401

DEFAULT_MODEL = "qwen-plus"

_SILENT_INPUT_S = 2.0


@dataclass(frozen=True)
class Talk:
    """A conversation so far, and what the next question is asked with."""

    model: str
    system: str = ""
    turns: tuple[Turn, ...] = ()

    def asked(self, question: str) -> "Talk":
        return dataclasses.replace(self, turns=(*self.turns, {"role": "user", "content": question}))

    def answered(self, text: str) -> "Talk":
        return dataclasses.replace(self, turns=(*self.turns, {"role": "assistant", "content": text}))

    @property
    def messages(self) -> tuple[Turn, ...]:
        """What is sent: the system message ahead of all turns."""
        return ({"role": "system", "content": self.system}, *self.turns) if self.system else self.turns


@dataclass(frozen=True)
class Step:
    """What a line beginning with `/` leads to: the conversation as it goes on (None: it is over), and what is said."""

    talk: Talk | None
    said: str = ""


def obey(line: str, talk: Talk) -> Step:
    """Do what a line beginning with `/` says. Pure."""
    command, _, rest = line.partition(" ")
    rest = rest.strip()
    match command:
        case "/exit" | "/quit":
            return Step(None)
        case "/clear":
            return Step(dataclasses.replace(talk, turns=()), say("a new conversation", "已开始新对话"))
        case "/model" if rest:
            return Step(dataclasses.replace(talk, model=rest), say(f"asking {rest} from now on", f"改用 {rest}"))
        case "/model":
            return Step(talk, say(f"{talk.model}; /model NAME changes it", f"{talk.model}；用 /model 名称 更换"))
        case "/system":
            said = (
                say("the system message is set", "已设置系统消息") if rest else say("no system message", "无系统消息")
            )
            return Step(dataclasses.replace(talk, system=rest), said)
        case "/help":
            return Step(talk, commands())
        case _:
            unknown = say(f"{command} is unknown.", f"未知命令 {command}。")
            return Step(talk, f"{unknown}\n{commands()}")


def commands() -> str:
    """List what a line may say to this program instead of to the model."""
    return say(
        "/model NAME   ask another model\n"
        "/system TEXT  set the system message; without text: none\n"
        "/clear        forget the conversation\n"
        "/exit         leave, as Ctrl-D does; Ctrl-C stops an answer",
        "/model 名称   更换模型\n"
        "/system 文本  设置系统消息；不带文本则清除\n"
        "/clear        清空对话\n"
        "/exit         退出，同 Ctrl-D；Ctrl-C 停止当前回答",
    )


@dataclass
class Told:
    """What was told of an answer so far, also when it was stopped on the way."""

    text: str = ""
    answer: Answer | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def remark(self) -> str:
        """Who answered, what of the request was not honoured, and what it cost; empty when nobody said so."""
        if self.answer is None:
            return ""
        parts = [show.plain(self.answer.served_by)]
        if (usage := self.answer.usage) is not None:
            parts.append(
                say(f"{usage.prompt} + {usage.completion} tokens", f"{usage.prompt} + {usage.completion} token")
            )
        if self.answer.finish_reason == "length":
            parts.append(say("cut at the length limit", "已达长度上限"))
        if self.answer.ignored:
            parts.append(say(f"not honoured: {self.answer.ignored}", f"未生效：{self.answer.ignored}"))
        parts.append(f"{time.monotonic() - self.began:.1f} s")
        return " · ".join(part for part in parts if part)


def tell(service: Service, talk: Talk, told: Told) -> None:
    """Ask, and print the answer as it comes; `told` grows with it. Raises Failed."""
    on_screen = sys.stdout.isatty()
    thinking = False
    with service.ask(talk.model, talk.messages) as answer:
        told.answer = answer
        for piece in answer.pieces():
            if piece.thinking:
                thinking = _think(piece.text)
                continue
            if thinking:
                show.err.print()
                thinking = False
            told.text += piece.text
            sys.stdout.write(show.plain(piece.text) if on_screen else piece.text)
            sys.stdout.flush()


def _think(text: str) -> bool:
    """Show thoughts dimmed, to whoever watches. Says whether a line was begun."""
    if not show.err.is_terminal:
        return False
    show.err.print(show.plain(text), style="dim", end="", markup=False, soft_wrap=True)
    return True


def once(target: Target, talk: Talk, as_json: bool) -> None:
    """Answer one question and say on stderr who did. Raises Failed."""
    with Service(target) as service:
        answer_once(service, talk, as_json)


def answer_once(service: Service, talk: Talk, as_json: bool) -> None:
    """Answer one question over a connection that is there. Raises Failed."""
    if as_json:
        show.data(_collected(service, talk))
        return
    told = Told()
    try:
        tell(service, talk, told)
    finally:
        if told.text and not told.text.endswith("\n"):
            sys.stdout.write("\n")
            sys.stdout.flush()
    show.remark(told.remark)


def _collected(service: Service, talk: Talk) -> dict[str, object]:
    with service.ask(talk.model, talk.messages) as answer:
        pieces = list(answer.pieces())
    return {
        "model": talk.model,
        "text": "".join(piece.text for piece in pieces if not piece.thinking),
        "thinking": "".join(piece.text for piece in pieces if piece.thinking),
        "finish_reason": answer.finish_reason,
        "served_by": answer.served_by,
        "ignored": answer.ignored,
        "usage": {"prompt": answer.usage.prompt, "completion": answer.usage.completion} if answer.usage else None,
    }


def converse(target: Target, talk: Talk | None) -> None:
    """Talk until the user leaves."""
    show.remark(
        say(
            f"{target.url} · /help lists commands, Ctrl-D leaves",
            f"{target.url} · /help 查看命令，Ctrl-D 退出",
        )
    )
    with Service(target) as service:
        while talk is not None:
            line = _line(talk.model)
            if line is None:
                return
            if line.startswith("/"):
                step = obey(line.strip(), talk)
                talk = step.talk
                if step.said:
                    show.remark(step.said)
            elif line.strip():
                talk = _turn(service, talk, line.strip())


def _turn(service: Service, talk: Talk, question: str) -> Talk:
    """Ask one question of a conversation. One that was not answered at all is forgotten, so that it can be repeated."""
    told = Told()
    asked = talk.asked(question)
    try:
        tell(service, asked, told)
    except KeyboardInterrupt:
        show.remark(say("\nstopped", "\n已停止"))
    except Failed as problem:
        sys.stdout.write("\n" if told.text else "")
        show.fail(problem)
    else:
        sys.stdout.write("\n")
        sys.stdout.flush()
        show.remark(told.remark)
    return asked.answered(told.text) if told.text else talk


def _line(model: str) -> str | None:
    """Read the next line; None at its end. Ctrl-C gives the line up, as in a shell."""
    try:
        if sys.stdout.isatty():
            plain = show.out.no_color or show.out.is_dumb_terminal
            # The marks tell the line editor that the colours take no room.
            return input(f"\n{model} › " if plain else f"\n\001\033[1;36m\002{model}\001\033[0m\002 › ")
        show.err.print(f"{model} › ", end="", markup=False)
        return input()
    except KeyboardInterrupt:
        show.err.print()
        return ""
    except EOFError:
        show.err.print()
        return None


def piped(*, strip: bool = True) -> str:
    """Return what was piped in, empty when a person sits there. After two silent seconds it says what it waits for."""
    if sys.stdin is None or sys.stdin.isatty():
        return ""
    if not select.select([sys.stdin], [], [], _SILENT_INPUT_S)[0]:
        show.note(
            say(
                "reading the standard input until it ends; without one: </dev/null",
                "正在读取标准输入直到结束；如不需要：</dev/null",
            )
        )
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    return text.strip() if strip else text
