"""How much later the first token of an answer about a 2,000-page file comes than that of the same prompt by itself.

The file is uploaded and read before anything is measured. Then questions are asked through the service, and after each
one the engine is asked directly, with as many tokens of the same pages: what differs is opening the file, searching it,
choosing passages and counting them. Aim: p50 within twice the direct call's.
"""

import argparse
import asyncio
import time
from typing import Any, cast

import msgspec
from openai import OpenAI

from bench.common import call, of_peer, peers, quantile, service
from hanlin.engines.frames import SSEReader
from tests.documents import filler, needles

PAGES, PAGE_SENTENCES = 2000, 110  # about 4,000 characters a page, as text files are cut into pages
QUESTIONS = 8
AIM = 2.0


def book(pages: int) -> tuple[list[str], list[str]]:
    """Return the pages of a text and the names that a question can ask for, spread over it."""
    names = [f"云杉{number}号" for number in range(101, 101 + QUESTIONS)]
    step = pages // QUESTIONS
    facts = [(1 + at * step, f"{name}项目的启动口令是蓝鲸{7000 + at}。") for at, name in enumerate(names)]
    return needles(filler(pages, sentences_a_page=PAGE_SENTENCES), *facts), names


def asked(client: OpenAI, file_id: str, question: str) -> tuple[float, dict[str, Any], str]:
    """Ask about the file; return the time to the first text, the recipe's report, and the answer."""
    messages: Any = [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "system", "content": f"fileid://{file_id}"},
        {"role": "user", "content": question},
    ]
    report: dict[str, Any] = {}
    began, first, text = time.perf_counter(), 0.0, ""
    for chunk in client.chat.completions.create(model="qwen-long", messages=messages, stream=True, max_tokens=48):
        if chunk.choices and (piece := chunk.choices[0].delta.content):
            first = first or time.perf_counter() - began
            text += piece
        report = (chunk.model_extra or {}).get("hanlin") or report
    return first, report, text


async def direct(peer: Any, text: str) -> tuple[float, int]:
    """Ask the engine itself with a text; return the time to its first token, and the tokens of the prompt."""
    body = of_peer(peer, call(text, max_tokens=2))
    began, first, tokens = time.perf_counter(), 0.0, 0
    response = await peer.client.send("POST", peer.path, msgspec.json.encode(body), headers=peer.headers)
    reader = SSEReader()
    async for piece in response.pieces():
        for data in reader.feed(piece):
            if data.startswith(b"[DONE]"):
                continue
            frame = msgspec.json.decode(data)
            if any(choice["delta"].get("content") for choice in frame["choices"]):
                first = first or time.perf_counter() - began
            tokens = (frame.get("usage") or {}).get("prompt_tokens", tokens)
    return first, tokens


async def measure(pages: int, questions: int) -> None:
    texts, names = book(pages)
    content = "\n".join(texts).encode()
    with service() as running, running.client(timeout=1800.0) as client:
        began = time.perf_counter()
        purpose = cast(Any, "file-extract")
        stored = client.files.create(file=("book.txt", content), purpose=purpose)
        while client.files.retrieve(stored.id).status != "processed":  # noqa: ASYNC110 (the other side is a process)
            await asyncio.sleep(0.5)
        print(f"upload and reading of {pages} pages, {len(content) / 1e6:.0f} MB: {time.perf_counter() - began:.1f} s")
        engine, through = peers(running)
        through.client.close()
        ratios, firsts = [], []
        for at, name in enumerate(names[:questions]):
            first, report, text = asked(client, stored.id, f"{name}项目的启动口令是什么？")
            tokens = report["prompt_tokens"]
            page = 1 + at * (pages // QUESTIONS)
            same = "".join(texts[page - 1 : page + 4])[: int(tokens / 0.66)]
            alone, alone_tokens = await direct(engine, f"第{at}题。\n{same}")
            scaled = alone * tokens / alone_tokens
            ratios.append(first / scaled)
            firsts.append(first)
            right = "right" if str(7000 + at) in text else f"wrong: {text}"
            print(f"{name}: {first:6.2f} s with {tokens} tokens, alone {scaled:6.2f} s, {first / scaled:4.2f}; {right}")
        engine.client.close()
    print(f"first token p50 {quantile(firsts, 0.5):.2f} s; ratio p50 {quantile(ratios, 0.5):.2f} (aim {AIM})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=PAGES)
    parser.add_argument("--questions", type=int, default=QUESTIONS)
    given = parser.parse_args()
    asyncio.run(measure(given.pages, given.questions))
