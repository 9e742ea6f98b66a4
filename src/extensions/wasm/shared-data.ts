/** proxy_get_shared_data, queues: what the VMs of one id have in common. One set for each worker. */

interface Entry {
  value: Buffer;
  cas: number;
}
interface Queue {
  readonly token: number;
  readonly messages: Buffer[];
  bytes: number;
  /** Tells the root context that registered it. */
  ready: (token: number) => void;
}

/** Bounds for each id: what guests leave there stays until the process ends. */
const maxBytes = 64 * 1024 * 1024;
const maxEntries = 100_000;

class SharedSpace {
  readonly data = new Map<string, Entry>();
  readonly queues = new Map<string, Queue>();
  bytes = 0;
}

const spaces = new Map<string, SharedSpace>();
const queuesByToken = new Map<number, Queue>();
let lastCas = 0;
let lastToken = 0;

function spaceOf(vmId: string): SharedSpace {
  let space = spaces.get(vmId);
  if (space === undefined) spaces.set(vmId, (space = new SharedSpace()));
  return space;
}

export function getShared(vmId: string, key: string): { readonly value: Buffer; readonly cas: number } | undefined {
  return spaces.get(vmId)?.data.get(key);
}

export function setShared(vmId: string, key: string, value: Buffer, cas: number): "ok" | "cas_mismatch" | "full" {
  const space = spaceOf(vmId);
  const found = space.data.get(key);
  if (cas !== 0 && found !== undefined && found.cas !== cas) return "cas_mismatch";
  const bytes = space.bytes + value.length - (found?.value.length ?? -key.length);
  if (bytes > maxBytes || (found === undefined && space.data.size >= maxEntries)) return "full";
  space.bytes = bytes;
  lastCas = (lastCas % 0x7fffffff) + 1;
  space.data.set(key, { value, cas: lastCas });
  return "ok";
}

export function registerQueue(vmId: string, name: string, ready: (token: number) => void): number {
  const { queues } = spaceOf(vmId);
  let queue = queues.get(name);
  if (queue === undefined) {
    queue = { token: ++lastToken, messages: [], bytes: 0, ready };
    queues.set(name, queue);
    queuesByToken.set(queue.token, queue);
  } else queue.ready = ready;
  return queue.token;
}
export function resolveQueue(vmId: string, name: string): number | undefined {
  return spaces.get(vmId)?.queues.get(name)?.token;
}
export function enqueue(token: number, data: Buffer): "ok" | "not_found" | "full" {
  const queue = queuesByToken.get(token);
  if (queue === undefined) return "not_found";
  if (queue.bytes + data.length > maxBytes || queue.messages.length >= maxEntries) return "full";
  queue.messages.push(data);
  queue.bytes += data.length;
  setImmediate(() => queue.ready(token));
  return "ok";
}
export function dequeue(token: number): Buffer | "not_found" | "empty" {
  const queue = queuesByToken.get(token);
  if (queue === undefined) return "not_found";
  const data = queue.messages.shift();
  if (data === undefined) return "empty";
  queue.bytes -= data.length;
  return data;
}
