// What all files need: the SDK on the service under test, and the fake engine behind it.
import OpenAI from "openai";

const { SERVICE_URL, SERVICE_KEY, ENGINE_URL } = process.env;

export const QUESTION = [
  { role: "system", content: "You are a helpful assistant." },
  { role: "user", content: "你是谁？" },
];

export const ENDLESS = { text: "长".repeat(20_000), chunk_delay_s: 0.02 };

export function client(options = {}) {
  return new OpenAI({ apiKey: SERVICE_KEY, baseURL: SERVICE_URL, maxRetries: 0, timeout: 60_000, ...options });
}

async function call(method, path, body) {
  const response = await fetch(ENGINE_URL + path, { method, body: body && JSON.stringify(body) });
  if (!response.ok) throw new Error(`${method} ${path} of the fake engine: ${await response.text()}`);
  return response.json();
}

/** Say what the engine answers, and forget what it was asked before. */
export async function answers(...rules) {
  await call("PUT", "/rules", rules);
  await call("DELETE", "/requests");
}

export const requests = () => call("GET", "/requests");

/** Wait until the engine's requests fit the condition. */
export async function waitFor(condition, limitMs = 10_000) {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const now = await requests();
    if (condition(now)) return now;
    if (Date.now() > deadline) throw new Error(`still not so after ${limitMs} ms: ${JSON.stringify(now)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export const allCancelled = (now) => now.length > 0 && now.every((request) => request.state === "cancelled");
