"""Vectors through the official Python SDK: it asks for base64 unless it is told otherwise."""

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from hanlin.testing import FakeEngine
from hanlin.testing.embeddings import vector

MODEL = "text-embedding-v4"


@pytest.mark.parametrize("encoding", [openai.omit, "float", "base64"])
def test_vectors_are_read_in_every_encoding(client: OpenAI, engine: FakeEngine, encoding: object) -> None:
    """With base64 asked for by name the SDK hands the text through; else it decodes by itself."""
    answer = client.embeddings.create(
        model=MODEL,
        input=["你好", "hello"],
        dimensions=1024,
        encoding_format=encoding,  # type: ignore[arg-type]
    )

    assert [row.index for row in answer.data] == [0, 1]
    assert answer.model == MODEL
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 4
    if encoding == "base64":
        assert all(isinstance(row.embedding, str) for row in answer.data)
    else:
        assert answer.data[0].embedding == pytest.approx(vector("你好", 1024), abs=1e-6)
        assert answer.data[1].embedding == pytest.approx(vector("hello", 1024), abs=1e-6)


async def test_the_asynchronous_client_reads_them_too(async_client: AsyncOpenAI, engine: FakeEngine) -> None:
    """Half of the services that embed are asynchronous."""
    answer = await async_client.embeddings.create(model=MODEL, input="你好", dimensions=1024)

    assert len(answer.data[0].embedding) == 1024


def test_refusals_are_the_sdks_own_exceptions(client: OpenAI, engine: FakeEngine) -> None:
    """With the vendor's words, the code and the field."""
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=MODEL, input=[[1, 2, 3]])
    with pytest.raises(openai.NotFoundError) as missing:
        client.embeddings.create(model="qwen-plus", input="a")

    assert "contents is neither str nor list of str.: input.contents" in refused.value.message
    assert refused.value.param == "input"
    assert missing.value.code == "model_not_supported"
    assert refused.value.request_id
