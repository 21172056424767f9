// Our limiter as a Durable Object, in memory: sliding windows of 61 buckets of 1/60, two limits, all or nothing.
// It stores nothing and checks no credential.
import { DurableObject } from "cloudflare:workers";

const BUCKETS = 60;

class Window {
  constructor(limit, windowMs) {
    this.limit = limit;
    this.windowMs = windowMs;
    this.tickMs = Math.ceil(windowMs / BUCKETS);
    this.runs = []; // [end of the tick, hits], oldest first
    this.used = 0;
  }

  fits(nowMs, cost) {
    while (this.runs.length && this.runs[0][0] <= nowMs - this.windowMs) this.used -= this.runs.shift()[1];
    return this.used + cost <= this.limit;
  }

  take(nowMs, cost) {
    const edge = nowMs - (nowMs % this.tickMs) + this.tickMs;
    const last = this.runs.at(-1);
    if (last && last[0] === edge) last[1] += cost;
    else this.runs.push([edge, cost]);
    this.used += cost;
  }

  state(nowMs) {
    return { remaining: this.limit - this.used, reset_ms: this.runs.length ? this.runs[0][0] + this.windowMs - nowMs : 0 };
  }
}

export class Limiter extends DurableObject {
  limits = [new Window(1_000_000, 1_000), new Window(10_000_000, 60_000)];

  check(cost) {
    const nowMs = Date.now();
    const allowed = this.limits.every((limit) => limit.fits(nowMs, cost));
    if (allowed) for (const limit of this.limits) limit.take(nowMs, cost);
    return { allowed, limits: this.limits.map((limit) => limit.state(nowMs)) };
  }
}

export default {
  async fetch(request, env) {
    if (request.method !== "POST") return new Response("ready");
    const { policy, subject } = await request.json();
    const decision = await env.OBJECTS.getByName(`${policy}:${subject}`).check(1);
    return Response.json(decision, { status: decision.allowed ? 200 : 429 });
  },
};
