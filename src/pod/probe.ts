/** Asks the pod's servers whether they answer. Nothing notifies of that, so it is tried at short intervals. */
import { request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { type Endpoint, formatEndpoint } from "./options.ts";

const INTERVAL_MS = 100;
const ANSWER_MS = 2000;
const MAX_BODY_BYTES = 1_000_000;

export interface Answer {
  readonly status: number;
  readonly body: string;
}

/** One request; undefined when no answer came. */
export function ask(endpoint: Endpoint, path: string, method: "GET" | "POST", signal?: AbortSignal): Promise<Answer | undefined> {
  return new Promise((resolve) => {
    const options = {
      host: endpoint.host,
      port: endpoint.port,
      path,
      method,
      agent: false,
      timeout: ANSWER_MS,
      headers: { host: formatEndpoint(endpoint), "user-agent": "outrider-pod" },
    };
    const asked = request({ ...options, ...(signal === undefined ? {} : { signal }) }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text: string) => {
        body += text;
        if (body.length > MAX_BODY_BYTES) response.destroy();
      });
      response.on("error", () => resolve(undefined));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
      response.on("close", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    asked.on("timeout", () => asked.destroy());
    asked.on("error", () => resolve(undefined));
    asked.end();
  });
}

/** Until any HTTP answer comes; false when the signal came first. */
export async function untilAnswered(endpoint: Endpoint, signal: AbortSignal): Promise<boolean> {
  while (!signal.aborted) {
    if ((await ask(endpoint, "/", "GET", signal)) !== undefined) return true;
    await sleep(INTERVAL_MS, undefined, { signal }).catch(() => {});
  }
  return false;
}

/** Takes the proxy's listeners away and waits for the requests in flight, at most `seconds` long. */
export async function drain(admin: Endpoint, seconds: number, signal: AbortSignal): Promise<void> {
  const until = performance.now() + seconds * 1000;
  if ((await ask(admin, "/drain_listeners", "POST", signal)) === undefined) return;
  const filter = encodeURIComponent("^http\\.(ingress|egress)\\.downstream_rq_active$");
  while (!signal.aborted && performance.now() < until) {
    const answer = await ask(admin, `/stats?filter=${filter}`, "GET", signal);
    if (answer === undefined || answer.status !== 200) return;
    if (![...answer.body.matchAll(/: ([0-9]+)/g)].some((found) => found[1] !== "0")) return;
    await sleep(INTERVAL_MS, undefined, { signal }).catch(() => {});
  }
}
