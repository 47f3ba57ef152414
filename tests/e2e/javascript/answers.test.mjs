// Answers, whole and streamed, as the JavaScript SDK reads them.
import assert from "node:assert/strict";
import test from "node:test";

import { answers, client, QUESTION, requests } from "./setup.mjs";

const ANSWER = "我是通义千问，你的助手。";

test("a question is answered", async () => {
  await answers({ text: ANSWER });

  const { data, response, request_id } = await client()
    .chat.completions.create({ model: "qwen-plus", messages: QUESTION })
    .withResponse();

  assert.equal(data.choices[0].message.content, ANSWER);
  assert.equal(data.choices[0].message.role, "assistant");
  assert.equal(data.choices[0].finish_reason, "stop");
  assert.equal(data.model, "qwen-plus");
  assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + data.usage.completion_tokens);
  assert.equal(data.id, `chatcmpl-${request_id}`);
  assert.equal(response.headers.get("x-hanlin-served-by"), "upstream; fake");
});

test("a stream says the same as an unstreamed answer, usage last", async () => {
  await answers({ text: ANSWER });
  const whole = await client().chat.completions.create({ model: "qwen-plus", messages: QUESTION });

  const stream = await client().chat.completions.create({
    model: "qwen-plus",
    messages: QUESTION,
    stream: true,
    stream_options: { include_usage: true },
  });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);

  const last = chunks.pop();
  assert.equal(chunks.map((chunk) => chunk.choices[0].delta.content).join(""), ANSWER);
  assert.equal(chunks.at(-1).choices[0].finish_reason, "stop");
  assert.ok(chunks.every((chunk) => chunk.usage === null));
  assert.deepEqual(last.choices, []);
  assert.deepEqual(last.usage, whole.usage);
});

test("a stream that did not ask for usage has a choice in every chunk", async () => {
  await answers({ text: ANSWER });

  const stream = await client().chat.completions.create({ model: "qwen-plus", messages: QUESTION, stream: true });

  for await (const chunk of stream) assert.equal(chunk.choices.length, 1);
});

test("the stream helper puts several choices together", async () => {
  await answers({ when: { seed: 7 }, text: "春天" }, { when: { seed: 8 }, text: "夏天来了" });

  const stream = client().chat.completions.stream({
    model: "qwen-plus",
    messages: QUESTION,
    n: 2,
    seed: 7,
    stream_options: { include_usage: true },
  });
  const final = await stream.finalChatCompletion();

  assert.deepEqual(
    final.choices.map((choice) => [choice.message.role, choice.message.content]),
    [
      ["assistant", "春天"],
      ["assistant", "夏天来了"],
    ],
  );
  assert.equal((await stream.totalUsage()).completion_tokens, 6);
});

test("extensions at the top level are refused, taken or listed", async () => {
  await answers({ text: ANSWER });

  const { response } = await client()
    .chat.completions.create({ model: "qwen-plus", messages: QUESTION, enable_thinking: false, thinking_budget: 5 })
    .withResponse();

  assert.equal(response.headers.get("x-hanlin-ignored"), "enable_thinking, thinking_budget");
  assert.equal((await requests())[0].body.enable_thinking, undefined);
});

test("eight questions at once get their own answers", async () => {
  await answers({ echo: true, chunk_delay_s: 0.01 });
  const questions = Array.from({ length: 8 }, (_, number) => `第${number}个问题`);

  const completions = await Promise.all(
    questions.map((content) =>
      client().chat.completions.create({ model: "qwen-plus", messages: [{ role: "user", content }] }),
    ),
  );

  assert.deepEqual(
    completions.map((completion) => completion.choices[0].message.content),
    questions,
  );
});

test("models are listed, and one with a slash is found", async () => {
  const names = [];
  for await (const model of client().models.list()) names.push(model.id);

  assert.ok(names.includes("qwen-plus") && names.includes("qwen3-max"));
  assert.equal((await client().models.retrieve("siliconflow/deepseek-v3.2")).id, "siliconflow/deepseek-v3.2");
});
