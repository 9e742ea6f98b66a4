/** The file a worker thread starts with. */
import { parentPort } from "node:worker_threads";
import { getLogger } from "../log/log.ts";
import type { FromWorker, ToWorker } from "./protocol.ts";
import { WorkerCore } from "./worker.ts";

const port = parentPort;
if (port === null) throw new Error("entry.ts is the first file of a worker thread; it does nothing by itself");

let core: WorkerCore | undefined;

const send = (message: FromWorker): void => {
  port.postMessage(message);
  // Sockets that are closing would keep the thread for a while; nobody waits for them.
  if (message.type === "stopped") setImmediate(() => process.exit(0));
};

port.on("message", (message: ToWorker) => {
  if (message.type === "start") {
    core = new WorkerCore(message.start, send);
    void core.prepare();
  } else if (core !== undefined) core.onMessage(message);
  else if (message.type === "stop") process.exit(0);
});

// An exception that reaches this point is a fault of ours. The thread is replaced: listening goes on in the others, and what was logged is kept.
process.on("uncaughtException", (error) => {
  getLogger("main").critical(`uncaught exception in a worker: ${error.stack ?? String(error)}`);
  core?.flushLogs();
  // Let the log record reach the main thread before the thread ends.
  setImmediate(() => process.exit(1));
});
