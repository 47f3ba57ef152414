// Ask one question and print the answer. Only `baseURL` differs from a program written for Model Studio.
import OpenAI from "openai";

const openai = new OpenAI({
  apiKey: process.env.DASHSCOPE_API_KEY,
  baseURL: "http://127.0.0.1:8080/compatible-mode/v1",
});

const completion = await openai.chat.completions.create({
  model: "qwen-plus",
  messages: [
    { role: "system", content: "You are a helpful assistant." },
    { role: "user", content: "你是谁？" },
  ],
});
console.log(completion.choices[0].message.content);
