// Refusals, failures and hang-ups as the JavaScript SDK sees them.
import assert from "node:assert/strict";
import test from "node:test";

import OpenAI from "openai";

import { allCancelled, answers, client, ENDLESS, QUESTION, requests, waitFor } from "./setup.mjs";

const ask = (options, extra = {}) =>
  client(options).chat.completions.create({ model: "qwen-plus", messages: QUESTION, ...extra });

test("a wrong parameter is a BadRequestError with code, field and words", async () => {
  await answers();

  await assert.rejects(ask({}, { n: 5 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.status, error.code, error.param], [400, "invalid_parameter_error", "n"]);
    assert.equal(error.type, "invalid_request_error");
    assert.match(error.message, /Range of n should be \[1, 4\]/);
    assert.ok(error.requestID);
    return true;
  });
  assert.deepEqual(await requests(), []);
});

test("a wrong key is an AuthenticationError", async () => {
  await assert.rejects(ask({ apiKey: "sk-wrong" }), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.deepEqual([error.status, error.code], [401, "invalid_api_key"]);
    return true;
  });
});

test("an unknown model is a NotFoundError", async () => {
  await assert.rejects(ask({}, { model: "gpt-9" }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.deepEqual([error.status, error.code, error.param], [404, "model_not_found", "model"]);
    return true;
  });
});

test("a wrong base URL is told the right one", async () => {
  const baseURL = process.env.SERVICE_URL.replace("/compatible-mode/v1", "/api/v1");

  await assert.rejects(ask({ baseURL }), (error) => {
    assert.ok(error instanceof OpenAI.NotFoundError);
    assert.match(error.message, /\/compatible-mode\/v1/);
    return true;
  });
});

test("a failing engine is an InternalServerError, and is tried again", async () => {
  await answers({ status: 500, times: 1 }, { text: "第二次" });

  await assert.rejects(ask({}), OpenAI.InternalServerError);

  await answers({ status: 500, times: 1 }, { text: "第二次" });
  const completion = await ask({ maxRetries: 1 });
  assert.equal(completion.choices[0].message.content, "第二次");
});

test("a stream that fails before its first word has its true status", async () => {
  await answers({ status: 503 });

  await assert.rejects(ask({}, { stream: true }), (error) => {
    assert.deepEqual([error.status, error.code], [503, "ModelUnavailable"]);
    assert.ok(Number(error.headers.get("retry-after")) > 0);
    return true;
  });
});

test("a failure inside a stream raises", async () => {
  await answers({ text: "一二三四", chunk_delay_s: 0.5, cut_after_chunks: 2 });
  const stream = await ask({}, { stream: true });
  let words = "";

  await assert.rejects(
    async () => {
      for await (const chunk of stream) words += chunk.choices[0].delta.content;
    },
    (error) => {
      assert.ok(error instanceof OpenAI.APIError);
      assert.equal(error.code, "internal_error");
      return true;
    },
  );
  assert.ok(words.startsWith("一"), words);
});

test("an aborted stream stops the engine", async () => {
  await answers(ENDLESS);
  const stream = await ask({}, { stream: true });

  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) stream.controller.abort();
  }

  await waitFor(allCancelled);
});

test("breaking out of the loop stops the engine", async () => {
  await answers(ENDLESS);

  for await (const chunk of await ask({}, { stream: true, n: 2 })) {
    if (chunk.choices[0].delta.content) break;
  }

  await waitFor(allCancelled);
});

test("an aborted unstreamed call stops the engine", async () => {
  await answers(ENDLESS);
  const controller = new AbortController();
  const call = client().chat.completions.create(
    { model: "qwen-plus", messages: QUESTION },
    { signal: controller.signal },
  );
  const rejected = assert.rejects(call, OpenAI.APIUserAbortError);
  await waitFor((now) => now.length === 1);

  controller.abort();

  await rejected;
  await waitFor(allCancelled);
});
