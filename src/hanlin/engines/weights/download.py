"""Fetch one file over HTTP into an unfinished file, going on where it stopped.

The digest is checked by whoever asked for the file. What an answer means is decided by `judge`, which is pure.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx2

from hanlin.engines.weights.connection import NO_TOKEN, http_client, is_passing, retry_after_s, what_happened
from hanlin.engines.weights.errors import SourceUnreachable, SourceUnusable, mask, size
from hanlin.engines.weights.partial import Job, Origin
from hanlin.settings import Secret
from hanlin.words import say

_NEWS_BYTES = 1024 * 1024  # an attempt that brought this much more than any before it was not in vain
_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)")


@dataclass(frozen=True)
class Take:
    """Write the body from this offset on."""

    offset: int


@dataclass(frozen=True)
class StartOver:
    """Throw away what is there and ask again, for the whole file."""

    why: str


@dataclass(frozen=True)
class Later:
    """Ask again after a pause, of this length if the server named one."""

    why: str
    wait_s: float = 0.0


@dataclass(frozen=True)
class Refuse:
    """Never ask again: this is not the file."""

    why: str


Verdict = Take | StartOver | Later | Refuse


def judge(status: int, headers: Mapping[str, str], *, have_bytes: int, wanted_bytes: int, etag: str) -> Verdict:
    """Decide what an answer means when `have_bytes` of the file are here, of the version `etag` ("" when not known).

    `headers` are looked up in lower case.
    """
    if is_passing(status):
        return Later(f"HTTP {status}", retry_after_s(headers))
    if status == 416 and have_bytes:
        return _judge_unsatisfied(headers, wanted_bytes)
    if status not in (200, 206):
        return Refuse(_refusal(status))
    is_page = headers.get("content-type", "").startswith("text/html")
    if is_page or headers.get("content-encoding", "identity") != "identity":
        return Refuse(say("answers with a web page instead of the file", "返回的是网页而不是文件"))
    if status == 200:
        return _judge_whole(headers, wanted_bytes)
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if match is None or match[1] is None or int(match[1]) != have_bytes:
        return StartOver(say("answered with another range", "返回了其他范围"))
    if match[2] != "*" and int(match[2]) != wanted_bytes:
        return Refuse(_other_size(int(match[2]), wanted_bytes))
    if etag and headers.get("etag", etag) != etag:
        return StartOver(say("the file changed meanwhile", "文件在此期间发生了变化"))
    return Take(have_bytes)


def _judge_whole(headers: Mapping[str, str], wanted_bytes: int) -> Verdict:
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length) != wanted_bytes:
        return Refuse(_other_size(int(length), wanted_bytes))
    return Take(0)


def _judge_unsatisfied(headers: Mapping[str, str], wanted_bytes: int) -> Verdict:
    match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if match is not None and match[2] != "*" and int(match[2]) != wanted_bytes:
        return Refuse(_other_size(int(match[2]), wanted_bytes))
    return StartOver(say("cannot go on from here", "无法从此处继续"))


def _other_size(found_bytes: int, wanted_bytes: int) -> str:
    return say(
        f"offers {found_bytes:,} bytes instead of {wanted_bytes:,}: another file",
        f"提供的文件为 {found_bytes:,} 字节，应为 {wanted_bytes:,} 字节：不是同一个文件",
    )


def _refusal(status: int) -> str:
    if status in (401, 403):
        return say(
            f"HTTP {status}: it wants a token, or the token given may not read this (HF_TOKEN, MODELSCOPE_API_TOKEN)",
            f"HTTP {status}：需要令牌，或所给令牌无权读取（HF_TOKEN、MODELSCOPE_API_TOKEN）",
        )
    if status in (404, 410):
        return say(f"HTTP {status}: the file is not there", f"HTTP {status}：文件不存在")
    return f"HTTP {status}"


def download(url: str, job: Job, token: Secret = NO_TOKEN) -> None:
    """Append the missing bytes until the file is as long as wanted. Raises SourceUnreachable and SourceUnusable.

    Dropped, stalled and truncated answers are asked for again from where they ended, as long as attempts bring news.
    """
    attempts = _Attempts(url, job)
    partial, patience = job.partial, job.patience
    failures, best_bytes = 0, partial.size_bytes
    job.progress(best_bytes, job.wanted.size_bytes, job.label)
    with http_client(job.label, patience, token) as client:
        while partial.missing_bytes > 0:
            later = attempts.run(client)
            if later is None:
                continue
            if partial.size_bytes >= best_bytes + _NEWS_BYTES:
                failures, best_bytes = 0, partial.size_bytes
            failures += 1
            if failures >= (patience.attempts if attempts.answered else patience.connect_attempts):
                times = say(f"gave up after {failures} attempts", f"尝试 {failures} 次后放弃")
                raise SourceUnreachable(job.label, say(f"{later.why} ({times})", f"{later.why}（{times}）"))
            again = say(f"{later.why}; trying again", f"{later.why}；正在重试")
            job.progress(partial.size_bytes, job.wanted.size_bytes, mask(again))
            time.sleep(min(max(patience.wait_s(failures), later.wait_s), patience.longest_wait_s))


class _Attempts:
    """The attempts at one file: `answered` once the server has said anything."""

    def __init__(self, url: str, job: Job) -> None:
        self.answered = False
        self._url = url
        self._wanted = job.wanted
        self._partial = job.partial
        self._label = job.label
        self._progress = job.progress
        # The server's name for the version is only good for the address that gave it; the address may hold secrets.
        self._key = mask(url)

    def run(self, client: httpx2.Client) -> Later | None:
        """Ask once and take what comes. Returns what is to be waited for, or None when the body came to its end."""
        have_bytes = self._partial.size_bytes
        origin = self._partial.origin
        etag = origin.etag if origin.source == self._key else ""
        headers = {}
        if have_bytes:
            headers["Range"] = f"bytes={have_bytes}-"
            if etag:
                headers["If-Range"] = etag
        try:
            with client.stream("GET", self._url, headers=headers) as response:
                self.answered = True
                self._refuse_other_digest(response)
                verdict = judge(
                    response.status_code,
                    response.headers,
                    have_bytes=have_bytes,
                    wanted_bytes=self._wanted.size_bytes,
                    etag=etag,
                )
                match verdict:
                    case Refuse(why):
                        raise SourceUnusable(self._label, why)
                    case StartOver(why):
                        self._partial.discard()
                        return Later(why)
                    case Later():
                        return verdict
                    case Take(offset):
                        return self._take(response, offset)
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.TooManyRedirects) as error:
            raise SourceUnusable(self._label, str(error)) from error
        except httpx2.TransportError as error:
            return Later(what_happened(error))

    def _take(self, response: httpx2.Response, offset: int) -> Later | None:
        if offset != self._partial.size_bytes:
            self._partial.cut(offset)
        etag = response.headers.get("etag", "")
        # A weak name says "much the same", which is not enough to join two halves.
        self._partial.remember(Origin(source=self._key, etag="" if etag.startswith("W/") else etag))
        done, total = offset, self._wanted.size_bytes
        with self._partial.appending() as write:
            for chunk in response.iter_raw():
                if done + len(chunk) > total:
                    raise SourceUnusable(
                        self._label,
                        say(f"sends more than the {total:,} bytes of the file", f"发送的内容超过文件的 {total:,} 字节"),
                    )
                write(chunk)
                done += len(chunk)
                self._progress(done, total, self._label)
        if done < total:
            return Later(
                say(
                    f"the answer ended after {size(done)} of {size(total)}", f"传输在 {size(done)}/{size(total)} 处中断"
                )
            )
        return None

    def _refuse_other_digest(self, response: httpx2.Response) -> None:
        """Hugging Face names the digest in the redirect to its storage: better to know before gigabytes have come."""
        for answer in (*response.history, response):
            named = answer.headers.get("x-linked-etag", "").removeprefix("W/").strip('"')
            if re.fullmatch("[0-9a-f]{64}", named) and named != self._wanted.sha256:
                raise SourceUnusable(
                    self._label,
                    say(f"offers another file (SHA-256 {named[:12]}…)", f"提供的是另一个文件（SHA-256 {named[:12]}…）"),
                )
