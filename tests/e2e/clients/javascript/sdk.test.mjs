// Thoughts, tools and typed answers as the official JavaScript SDK reads them.
import assert from "node:assert/strict";
import test from "node:test";

import OpenAI from "openai";
import { zodFunction, zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

import { answers, client, requests } from "../../javascript/setup.mjs";

const THINKER = { thinking: "用户问我是谁。", text: "我是通义千问。", thinks_when_asked: true };
const QUESTION = [{ role: "user", content: "你是谁？" }];
const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    description: "查询一个城市现在的天气",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const HANGZHOU = { name: "get_weather", arguments: { city: "杭州" } };
const Order = z.object({
  customer: z.string(),
  payment: z.enum(["支付宝", "微信"]),
  lines: z.array(z.object({ name: z.string(), quantity: z.number().int() })),
  note: z.string().nullable(),
});
const ORDER = { customer: "李娜", payment: "微信", lines: [{ name: "雨伞", quantity: 3 }], note: null };

const ask = (extra) => client().chat.completions.create({ model: "qwen-plus", messages: QUESTION, ...extra });

test("thoughts come beside the answer", async () => {
  await answers(THINKER);

  const completion = await ask({ enable_thinking: true });

  const { content, reasoning_content } = completion.choices[0].message;
  assert.deepEqual([reasoning_content, content], [THINKER.thinking, THINKER.text]);
  assert.ok(completion.usage.completion_tokens_details.reasoning_tokens > 0);
});

test("streamed thoughts end before the answer begins", async () => {
  await answers(THINKER);
  const pieces = [];

  for await (const chunk of await ask({ enable_thinking: true, stream: true })) {
    const { content, reasoning_content } = chunk.choices[0].delta;
    if (reasoning_content) pieces.push(["thought", reasoning_content]);
    if (content) pieces.push(["answer", content]);
  }

  const joined = (kind) => pieces.filter(([one]) => one === kind).map(([, text]) => text).join("");
  assert.deepEqual([joined("thought"), joined("answer")], [THINKER.thinking, THINKER.text]);
  const kinds = pieces.map(([kind]) => kind);
  assert.ok(kinds.lastIndexOf("thought") < kinds.indexOf("answer"));
});

test("an agent goes round until it has its answer", async () => {
  await answers({ smart: true });
  const messages = [{ role: "user", content: "杭州天气怎么样？" }];

  const first = await ask({ messages, tools: [WEATHER] });
  const { message, finish_reason } = first.choices[0];
  assert.equal(finish_reason, "tool_calls");
  const [call] = message.tool_calls;
  assert.deepEqual(JSON.parse(call.function.arguments), { city: "杭州" });
  messages.push(message, { role: "tool", tool_call_id: call.id, content: "晴，25 度" });
  const last = await ask({ messages, tools: [WEATHER] });

  assert.match(last.choices[0].message.content, /晴，25 度/);
});

test("the SDK's own loop runs the tools", async () => {
  await answers({ smart: true });
  const asked = [];
  const weather = {
    type: "function",
    function: {
      ...WEATHER.function,
      parse: JSON.parse,
      function: ({ city }) => {
        asked.push(city);
        return "晴";
      },
    },
  };

  const runner = client().chat.completions.runTools({
    model: "qwen-plus",
    messages: [{ role: "user", content: "杭州天气怎么样？" }],
    tools: [weather],
    stream: true,
  });

  assert.match(await runner.finalContent(), /晴/);
  assert.deepEqual(asked, ["杭州"]);
});

test("the stream helper joins the fragments of several calls", async () => {
  const calls = [HANGZHOU, { name: "get_weather", arguments: { city: "北京" } }];
  await answers({ tool_calls: calls });

  const stream = client().chat.completions.stream({
    model: "qwen-plus",
    messages: QUESTION,
    tools: [WEATHER],
    parallel_tool_calls: true,
  });
  const message = (await stream.finalChatCompletion()).choices[0].message;

  assert.deepEqual(
    message.tool_calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]),
    calls.map((call) => [call.name, call.arguments]),
  );
  assert.match(message.tool_calls[0].id, /^call_[0-9a-f]{22}$/);
});

test("parse returns a typed object, streamed and not", async () => {
  await answers({ text: JSON.stringify(ORDER), chunk_tokens: 3 });
  const wanted = { model: "qwen-plus", messages: QUESTION, response_format: zodResponseFormat(Order, "order") };

  const whole = await client().chat.completions.parse(wanted);
  const streamed = await client().chat.completions.stream(wanted).finalChatCompletion();

  assert.deepEqual(whole.choices[0].message.parsed, ORDER);
  assert.deepEqual(streamed.choices[0].message.parsed, ORDER);
});

test("arguments of a strict tool that is named are parsed", async () => {
  await answers({ smart: true });

  const completion = await client().chat.completions.parse({
    model: "qwen-plus",
    messages: [{ role: "user", content: "李娜买了 3 件商品，用微信付款。" }],
    tools: [zodFunction({ name: "save_order", parameters: Order })],
    tool_choice: { type: "function", function: { name: "save_order" } },
  });

  const [call] = completion.choices[0].message.tool_calls;
  assert.equal(Order.parse(call.function.parsed_arguments).payment, "微信");
});

test("what the vendor refuses is a BadRequestError with its words", async () => {
  await answers({});

  for (const stream of [false, true]) {
    await assert.rejects(ask({ tools: [WEATHER], tool_choice: "required", stream }), (error) => {
      assert.ok(error instanceof OpenAI.BadRequestError);
      assert.equal(error.param, "tool_choice");
      assert.match(error.message, /tool_choice is one of the strings/);
      return true;
    });
  }
  assert.deepEqual(await requests(), []);
});
