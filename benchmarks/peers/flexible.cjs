// The peer from Node: rate-limiter-flexible behind Express, counted in a Redis-protocol server.
//
//     node flexible.cjs PORT SOCKET plain|pipelined
//
// `plain` is set up as its pages show it; `pipelined` lets its client join what waits into pipelines. Both ask both
// limits at once, with no credential. Its windows are fixed ones: at the bound of two they admit twice the limit.
const express = require("express");
const { Redis } = require("ioredis");
const { RateLimiterRedis } = require("rate-limiter-flexible");

const [port, path, manner] = process.argv.slice(2);
const storeClient = new Redis({ path, enableAutoPipelining: manner === "pipelined" });
const limits = [
  new RateLimiterRedis({ storeClient, keyPrefix: "second", points: 1_000_000, duration: 1 }),
  new RateLimiterRedis({ storeClient, keyPrefix: "minute", points: 10_000_000, duration: 60 }),
];

const app = express();
app.disable("etag");
app.disable("x-powered-by");
app.get("/", (request, response) => response.send("ready"));
app.post("/v1/check", express.json(), async (request, response) => {
  const key = `${request.body.policy}:${request.body.subject}`;
  const answers = await Promise.allSettled(limits.map((limit) => limit.consume(key)));
  const failed = answers.find((answer) => answer.reason instanceof Error);
  const allowed = answers.every((answer) => answer.status === "fulfilled");
  response.status(failed ? 500 : allowed ? 200 : 429).json({ allowed });
});
app.listen(Number(port), "127.0.0.1");
