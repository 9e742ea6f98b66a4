/** Whether the pod can listen where it is to listen; who stands in the way if not. */
import { createServer } from "node:net";
import { findPortHolder } from "../os/port-holder.ts";
import { type Endpoint, formatEndpoint } from "./options.ts";

/** What cannot be done, and what to do about it; for the user. */
export class PodError extends Error {}

export interface WantedPort {
  /** What listens there, for messages. */
  readonly name: string;
  /** The flag that changes it. */
  readonly flag: string;
  readonly endpoint: Endpoint;
}

/** Binds for a moment: the port that the system gave (for 0) or the one asked for; fails as listen(2) does. */
function tryToListen(endpoint: Endpoint): Promise<{ port: number; release(): Promise<void> }> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen({ host: endpoint.host, port: endpoint.port, exclusive: true }, () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : endpoint.port;
      resolve({ port, release: () => new Promise((done) => server.close(() => done())) });
    });
  });
}

function explain(wanted: WantedPort, error: NodeJS.ErrnoException): string {
  const { name, flag, endpoint } = wanted;
  const where = formatEndpoint(endpoint);
  switch (error.code) {
    case "EADDRINUSE": {
      const holder = findPortHolder(endpoint.port);
      const who = holder === undefined ? "another process (of another user: its name is not ours to see)" : `${holder.name} (pid ${holder.pid})`;
      return `port ${endpoint.port} for the ${name} is taken by ${who}. Stop it, or choose another port: ${flag} PORT (0: any free one)`;
    }
    case "EACCES":
      return `${where} for the ${name}: this user may not listen on ports below 1024. Choose another: ${flag} PORT`;
    case "EADDRNOTAVAIL":
      return `${where} for the ${name}: this machine has no such address. Choose another: ${flag} ADDRESS:PORT`;
    default:
      return `${where} for the ${name}: ${error.message}. Choose another: ${flag} PORT`;
  }
}

/** The ports to use, in the order of `wanted`; every trouble is in the one error. */
export async function choosePorts(wanted: readonly WantedPort[]): Promise<number[]> {
  const troubles: string[] = [];
  const held: Awaited<ReturnType<typeof tryToListen>>[] = [];
  // All at once, so that the system does not give one port twice, and two flags with the same port are found.
  for (const one of wanted) {
    try {
      held.push(await tryToListen(one.endpoint));
    } catch (error) {
      const twin = wanted.find((other) => other !== one && other.endpoint.port === one.endpoint.port);
      if (twin !== undefined && findPortHolder(one.endpoint.port)?.pid === process.pid)
        troubles.push(`port ${one.endpoint.port} is asked for twice: for the ${twin.name} (${twin.flag}) and the ${one.name} (${one.flag})`);
      else troubles.push(explain(one, error as NodeJS.ErrnoException));
    }
  }
  await Promise.all(held.map((one) => one.release()));
  if (troubles.length > 0) throw new PodError(troubles.join("\n"));
  return held.map((one) => one.port);
}
