// The twin of benchmarks/tally.py as a Durable Object: the answer waits behind the output gate for the write.
import { DurableObject } from "cloudflare:workers";

export class Tally extends DurableObject {
  async add(amount) {
    const total = ((await this.ctx.storage.get("total")) ?? 0) + amount;
    this.ctx.storage.put("total", total);
    return total;
  }
}

export default {
  async fetch(request, env) {
    if (request.method !== "POST") return new Response("ready");
    const { amount } = await request.json();
    const name = new URL(request.url).pathname.split("/")[4];
    return Response.json(await env.OBJECTS.getByName(name).add(amount));
  },
};
