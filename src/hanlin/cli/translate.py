"""`hanlin translate`: a text, or whole files, into another language. Only translations go to stdout, or where they are
sent; who made them and what is doubtful about them stands on stderr."""

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hanlin.catalogue import load
from hanlin.cli import show
from hanlin.cli.client import Answer, Service, Target
from hanlin.cli.show import Failed, Misused
from hanlin.recipes.translation import languages
from hanlin.words import say

DEFAULT_MODEL = "qwen-mt-flash"

_MOST_NAMED = 3


@dataclass(frozen=True)
class Wish:
    """What is to become of the texts: their languages, as the service knows them, and the words to use."""

    model: str
    target_lang: str
    source_lang: str = "auto"
    terms: tuple[tuple[str, str], ...] = ()
    style: str = ""

    def options(self) -> dict[str, Any]:
        """Return the fields that travel beside the text."""
        options: dict[str, Any] = {
            "source_lang": self.source_lang,
            "target_lang": self.target_lang,
            "hanlin": {"split": True, "report": True},
        }
        if self.terms:
            options["terms"] = [{"source": source, "target": target} for source, target in self.terms]
        if self.style:
            options["domains"] = self.style
        return {"translation_options": options}


@dataclass(frozen=True)
class Job:
    """A text to translate, and where the translation goes; None: to stdout. `name` is the file that it came from."""

    text: str
    name: str = ""
    out: Path | None = None


def language(word: str, flag: str) -> str:
    """Return the code of a language that a user named. Raises Misused with names that look alike."""
    if flag == "--from" and word.casefold() == "auto":
        return "auto"
    found = languages.find(word)
    if found is not None:
        return found.code
    near = [row.name for row in languages.languages() if word.casefold()[:4] in row.name.casefold()][:_MOST_NAMED]
    hint = say(f"; did you mean {' or '.join(near)}?", f"；是否指 {'、'.join(near)}？") if near else ""
    raise Misused(
        say(
            f"{flag}: no language is called {word!r} (English names and codes: docs/translation.md){hint}",
            f"{flag}：没有名为 {word!r} 的语种（可用英文名或代码：docs/translation.md）{hint}",
        )
    )


def term(text: str) -> tuple[str, str]:
    """Return the two halves of `source=target`. Raises Misused."""
    source, equals, target = (part.strip() for part in text.partition("="))
    if not (source and equals and target):
        raise Misused(
            say(f"--term {text!r}: write it as source=target", f"--term {text!r}：请写成 原文=译文"),
        )
    return source, target


def glossary(path: Path) -> list[tuple[str, str]]:
    """Return the terms of a file, a line each; empty lines and those that begin with # don't count. Raises Failed."""
    lines = (line.strip() for line in _read(path).splitlines())
    return [term(line) for line in lines if line and not line.startswith("#")]


def jobs(words: Sequence[str], piped: str, out: Path | None) -> list[Job]:
    """Return what is to be translated: the files that are named, or else the words, or else what was piped in.

    Several files need a folder for `out`. Raises Misused and Failed.
    """
    files = [Path(word) for word in words]
    if words and all(file.is_file() for file in files):
        if len(files) > 1 and out is not None and not out.is_dir():
            raise Misused(
                say(f"--out {out}: several files need a folder that is there", f"--out {out}：多个文件需要已存在的目录")
            )
        return [Job(_read(file), file.name, _place(file, out)) for file in files]
    for word in words:
        if os.sep in word and " " not in word and len(Path(word).suffix) > 1 and "://" not in word:
            raise Failed(say(f"{word}: no such file", f"{word}：没有此文件"))
    text = " ".join(words) or piped
    if not text.strip():
        raise Misused(
            say(
                "nothing to translate. See `hanlin translate --help`",
                "没有要翻译的内容。请看 `hanlin translate --help`",
            )
        )
    return [Job(text, "", out)]


def _place(file: Path, out: Path | None) -> Path | None:
    place = out / file.name if out is not None and out.is_dir() else out
    if place is not None and place.exists() and place.samefile(file):
        raise Misused(say(f"--out {place} is the file itself", f"--out {place} 就是原文件"))
    return place


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Failed(say(f"{path} cannot be read: {error}", f"无法读取 {path}：{error}")) from error


def translate(target: Target, wish: Wish, work: Sequence[Job], as_json: bool) -> None:
    """Translate texts one after another. Raises Failed."""
    row = load().find(wish.model)
    cumulative = row is not None and row.cumulative
    results: list[dict[str, Any]] = []
    with Service(target) as service:
        for job in work:
            told = _Told(job, cumulative, quiet=as_json)
            with service.ask(wish.model, [{"role": "user", "content": job.text}], wish.options()) as answer:
                told.read(answer)
            if as_json:
                results.append(_as_data(job, told, answer))
            else:
                show.remark(_remark(job, answer))
    if as_json:
        show.data(results[0] if len(results) == 1 else results)


class _Told:
    """A translation as it comes: shown, or written to its file once it is whole."""

    def __init__(self, job: Job, cumulative: bool, *, quiet: bool) -> None:
        self._job = job
        self._cumulative = cumulative
        self._quiet = quiet or job.out is not None
        self.text = ""

    def read(self, answer: Answer) -> None:
        on_screen = sys.stdout.isatty()
        lines = self._job.text.count("\n") + 1
        # A bar between the lines of a text that is shown as it comes would only disturb it.
        with show.counting(lines) if self._quiet or not on_screen else nullcontext() as counted:
            for piece in answer.pieces():
                new = piece.text[len(self.text) :] if self._cumulative else piece.text
                self.text += new
                if not self._quiet:
                    sys.stdout.write(show.plain(new) if on_screen else new)
                    sys.stdout.flush()
                if counted is not None:
                    counted(new.count("\n"), lines < 2)
        if self._job.out is not None:
            self._write(self._job.out)
        elif not self._quiet and not self.text.endswith("\n"):
            sys.stdout.write("\n")
            sys.stdout.flush()

    def _write(self, place: Path) -> None:
        try:
            # As a whole or not at all: half a translation must not stand in for one.
            beside = place.with_name(f".{place.name}.part")
            beside.write_text(self.text, encoding="utf-8", newline="")
            beside.replace(place)
        except OSError as error:
            raise Failed(say(f"{place} cannot be written: {error}", f"无法写入 {place}：{error}")) from error


def _remark(job: Job, answer: Answer) -> str:
    """Say who translated, into what file, and what may be wrong with it."""
    parts = [show.plain(answer.served_by)]
    if job.out is not None:
        parts.insert(0, f"{job.name or say('text', '文本')} → {job.out}")
    elif job.name:
        parts.insert(0, job.name)
    report = _report(answer)
    notes = [note for note in report.get("notes", []) if isinstance(note, dict)]
    corrected = sum(bool(note.get("corrected")) for note in notes)
    if corrected:
        parts.append(say(f"put right: {corrected}", f"已纠正：{corrected} 处"))
    doubtful = [note for note in notes if note.get("left")]
    if doubtful:
        said = "; ".join(
            show.plain(f"{say('piece', '第')} {note.get('segment')}{say('', ' 段')}: {', '.join(note['left'])}")
            for note in doubtful[:_MOST_NAMED]
        )
        parts.append(say(f"doubtful: {len(doubtful)} ({said})", f"存疑：{len(doubtful)} 处（{said}）"))
    if answer.finish_reason == "length":
        parts.append(say("cut at the length limit", "已达长度上限"))
    return " · ".join(part for part in parts if part)


def _report(answer: Answer) -> dict[str, Any]:
    report = answer.report.get("translation") if isinstance(answer.report, dict) else None
    return report if isinstance(report, dict) else {}


def _as_data(job: Job, told: _Told, answer: Answer) -> dict[str, Any]:
    return {
        "file": job.name or None,
        "text": told.text,
        "out": str(job.out) if job.out is not None else None,
        "finish_reason": answer.finish_reason,
        "served_by": answer.served_by,
        "report": _report(answer) or None,
        "usage": {"prompt": answer.usage.prompt, "completion": answer.usage.completion} if answer.usage else None,
    }


__all__ = ["DEFAULT_MODEL", "Job", "Wish", "glossary", "jobs", "language", "term", "translate"]
