// The AI SDK of Vercel with both of its providers: it checks every chunk against schemas of its own.
import assert from "node:assert/strict";
import test from "node:test";

import { createAlibaba } from "@ai-sdk/alibaba";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embedMany, generateObject, generateText, stepCountIs, streamObject, streamText, tool } from "ai";
import { z } from "zod";

import { answers, requests } from "../../javascript/setup.mjs";

const { SERVICE_URL, SERVICE_KEY, EMBEDDINGS } = process.env;

const compatible = createOpenAICompatible({
  name: "hanlin",
  baseURL: SERVICE_URL,
  apiKey: SERVICE_KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const alibaba = createAlibaba({ baseURL: SERVICE_URL, apiKey: SERVICE_KEY });
// How each is told to think.
const PROVIDERS = {
  "openai-compatible": { provider: compatible, thinking: { hanlin: { enable_thinking: true } } },
  alibaba: { provider: alibaba, thinking: { alibaba: { enableThinking: true } } },
};

const THINKER = { thinking: "用户问我是谁。", text: "我是通义千问。", thinks_when_asked: true };
const Order = z.object({
  customer: z.string(),
  payment: z.enum(["支付宝", "微信"]),
  lines: z.array(z.object({ name: z.string(), quantity: z.number().int() })),
});
const ORDER = { customer: "李娜", payment: "微信", lines: [{ name: "雨伞", quantity: 3 }] };

async function partsOf(stream) {
  const parts = [];
  for await (const part of stream) {
    if (part.type === "error") throw part.error;
    parts.push(part);
  }
  return parts;
}

for (const [name, { provider, thinking }] of Object.entries(PROVIDERS)) {
  const settings = { model: provider.chatModel("qwen-plus"), maxRetries: 0 };

  test(`${name}: a question is answered, with its usage`, async () => {
    await answers({ text: THINKER.text });

    const { text, usage, finishReason, response } = await generateText({ ...settings, prompt: "你是谁？" });

    assert.deepEqual([text, finishReason, response.modelId], [THINKER.text, "stop", "qwen-plus"]);
    assert.equal(usage.totalTokens, usage.inputTokens + usage.outputTokens);
  });

  test(`${name}: a stream says the same`, async () => {
    await answers({ text: THINKER.text });

    const result = streamText({ ...settings, prompt: "你是谁？" });
    const parts = await partsOf(result.fullStream);

    const texts = parts.filter(({ type }) => type === "text-delta").map(({ text }) => text);
    assert.equal(texts.join(""), THINKER.text);
    assert.ok((await result.usage).outputTokens > 0);
  });

  test(`${name}: thoughts are reasoning, streamed and not`, async () => {
    await answers(THINKER);
    const asked = { ...settings, prompt: "你是谁？", providerOptions: thinking };

    const whole = await generateText(asked);
    const parts = await partsOf(streamText(asked).fullStream);

    assert.deepEqual([whole.reasoningText, whole.text], [THINKER.thinking, THINKER.text]);
    const joined = (kind) => parts.filter(({ type }) => type === kind).map(({ text }) => text).join("");
    assert.deepEqual([joined("reasoning-delta"), joined("text-delta")], [THINKER.thinking, THINKER.text]);
    assert.ok(whole.usage.outputTokenDetails.reasoningTokens > 0);
  });

  for (const streams of [false, true]) {
    test(`${name}: an agent of several steps ${streams ? "streams" : "answers"}`, async () => {
      await answers({ smart: true });
      const cities = [];
      const weather = tool({
        description: "查询一个城市现在的天气",
        inputSchema: z.object({ city: z.string() }),
        execute: async ({ city }) => {
          cities.push(city);
          return { sky: "晴", degrees: 25 };
        },
      });
      const asked = { ...settings, prompt: "杭州天气怎么样？", tools: { weather }, stopWhen: stepCountIs(4) };

      const result = streams ? streamText(asked) : await generateText(asked);
      if (streams) await partsOf(result.fullStream);

      assert.deepEqual(cities, ["杭州"]);
      assert.equal((await result.steps).length, 2);
      assert.match(await result.text, /晴/);
    });
  }

  test(`${name}: objects fit their schema, streamed and not`, async () => {
    await answers({ text: JSON.stringify(ORDER), chunk_tokens: 3, chunk_delay_s: 0.01 });
    const asked = { ...settings, schema: Order, prompt: "用 JSON 写一份订单。" };

    const whole = await generateObject(asked);
    const streamed = streamObject(asked);
    const partial = [];
    for await (const object of streamed.partialObjectStream) partial.push(object);

    assert.deepEqual(whole.object, ORDER);
    assert.deepEqual(await streamed.object, ORDER);
    assert.ok(partial.length > 2);
  });

  test(`${name}: a refusal is an APICallError with the vendor's words`, async () => {
    await answers({});
    const tools = { weather: tool({ inputSchema: z.object({}) }) };

    await assert.rejects(generateText({ ...settings, prompt: "你好", tools, toolChoice: "required" }), (error) => {
      assert.ok(APICallError.isInstance(error));
      assert.equal(error.statusCode, 400);
      assert.match(error.message, /tool_choice is one of the strings/);
      return true;
    });
    assert.deepEqual(await requests(), []);
  });

  test(`${name}: a tool that is named is called`, async () => {
    await answers({ smart: true });
    const tools = { weather: tool({ description: "天气", inputSchema: z.object({ city: z.string() }) }) };

    const { toolCalls } = await generateText({
      ...settings,
      prompt: "你好，杭州",
      tools,
      toolChoice: { type: "tool", toolName: "weather" },
    });

    assert.equal(toolCalls.length, 1);
    assert.equal(typeof toolCalls[0].input.city, "string");
  });
}

test("texts become vectors", { skip: !EMBEDDINGS && "these engines have no vectors" }, async () => {
  const { embeddings, usage } = await embedMany({
    model: compatible.textEmbeddingModel("text-embedding-v4"),
    values: ["春天", "夏天", "秋天"],
  });

  assert.equal(embeddings.length, 3);
  assert.ok(embeddings.every((vector) => vector.length === embeddings[0].length));
  assert.ok(usage.tokens > 0);
});
