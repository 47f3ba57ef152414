// Print how long the vectors of two texts are, and whether they are finite numbers.
import { client } from "./setup.mjs";

const { data } = await client().embeddings.create({ model: "text-embedding-v4", input: ["你好", "hello"] });
const lengths = data.map((row) => row.embedding.length);
console.log(...lengths, data.every((row) => row.embedding.every(Number.isFinite)));
