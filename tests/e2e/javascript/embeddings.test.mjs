// Vectors, as the JavaScript SDK reads them: it asks for base64 and decodes whatever comes as that.
import assert from "node:assert/strict";
import test from "node:test";

import { answers, client } from "./setup.mjs";

const MODEL = "text-embedding-v4";
const ASKED = { model: MODEL, input: ["你好", "hello"], dimensions: 1024 };

test("vectors come whole without a word about their encoding", async () => {
  await answers();

  const { data, response } = await client().embeddings.create(ASKED).withResponse();

  assert.equal(data.object, "list");
  assert.equal(data.model, MODEL);
  assert.deepEqual(data.data.map((row) => [row.index, row.embedding.length]), [[0, 1024], [1, 1024]]);
  assert.ok(data.data.every((row) => row.embedding.every(Number.isFinite)));
  assert.ok(Math.abs(Math.hypot(...data.data[0].embedding) - 1) < 1e-3);
  assert.deepEqual(data.usage, { prompt_tokens: 4, total_tokens: 4 });
  assert.equal(response.headers.get("x-hanlin-served-by"), "upstream; fake");
});

test("both encodings hold the same numbers", async () => {
  await answers();

  const decoded = await client().embeddings.create(ASKED);
  const listed = await client().embeddings.create({ ...ASKED, encoding_format: "float" });

  assert.deepEqual([...decoded.data[1].embedding], listed.data[1].embedding);
});

test("too many texts are refused in the vendor's words", async () => {
  await answers();

  await assert.rejects(client().embeddings.create({ ...ASKED, input: Array(11).fill("a") }), (error) => {
    assert.equal(error.status, 400);
    assert.match(error.message, /Value error, batch size is invalid, it should not be larger than 10\./);
    assert.equal(error.param, "input");
    return true;
  });
});
