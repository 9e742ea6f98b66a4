/** Keys of session tickets: random for each process, the same in all of its threads, so that a session of one worker is resumed by another. */
import { hkdfSync, randomBytes } from "node:crypto";
import { getEnvironmentData, isMainThread, setEnvironmentData } from "node:worker_threads";

const name = "outrider.tls.ticket_secret";

/** 48 bytes for one TLS configuration; `id` tells it from others. */
export function ticketKeys(id: Buffer): Buffer {
  let secret = getEnvironmentData(name) as Uint8Array | undefined;
  if (secret === undefined) {
    secret = randomBytes(32);
    // The main thread compiles before it starts workers; they inherit what is set here.
    if (isMainThread) setEnvironmentData(name, secret);
  }
  return Buffer.from(hkdfSync("sha256", secret, id, "outrider session tickets", 48));
}
