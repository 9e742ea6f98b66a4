/** One listening socket: bound by Node, or by hand where options are asked for that Node cannot set. */
import { chmodSync } from "node:fs";
import { createServer, type ListenOptions, type Server, type Socket } from "node:net";
import { ipAddress } from "../net/address.ts";
import type { Address } from "../net/connection.ts";
import { AcceptQueue } from "./accept-queue.ts";
import { nativeSockets, type RawSocketOption } from "./native-sockets.ts";
import type { SocketOption, SocketSettings } from "./socket-options.ts";

export interface BindOptions {
  /** Other workers bind the same address. */
  readonly shared: boolean;
  /** Instead of a configured port 0. */
  readonly port: number | undefined;
  readonly ipv4Compat: boolean;
  /** Permissions of a path; 0: the system's. */
  readonly mode: number;
  readonly backlog: number;
  readonly socket: SocketSettings;
}

/** Listens; `text`: what was bound. Rejects with the system's error and the `address` that it is about. */
export async function bind(
  address: Address,
  options: BindOptions,
  onConnection: (socket: Socket, queue: AcceptQueue) => void,
): Promise<{ readonly server: Server; readonly queue: AcceptQueue; readonly text: string }> {
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true, noDelay: true });
  try {
    await start(server, address, options);
  } catch (error) {
    throw Object.assign(error as Error, { address: address.text });
  }
  const queue = new AcceptQueue((server as unknown as { readonly _handle: { readonly fd: number } | null })._handle?.fd ?? -1);
  server.on("connection", (socket) => onConnection(socket, queue));
  if (address.kind === "pipe") {
    if (options.mode > 0 && !address.path.startsWith("@")) chmodSync(address.path, options.mode);
    return { server, queue, text: address.text };
  }
  const at = server.address();
  return { server, queue, text: at !== null && typeof at === "object" ? ipAddress(at.address, at.port).text : address.text };
}

async function start(server: Server, address: Address, options: BindOptions): Promise<void> {
  const { socket, backlog } = options;
  if (address.kind === "pipe") {
    await listening(server, { path: address.path.startsWith("@") ? `\0${address.path.slice(1)}` : address.path, backlog });
    return;
  }
  const port = address.port === 0 ? (options.port ?? 0) : address.port;
  const ipv6Only = address.family === 6 && !options.ipv4Compat;
  if (socket.beforeBind.length + socket.bound.length + socket.listening.length === 0) {
    await listening(server, { host: address.ip, port, ipv6Only, reusePort: options.shared, backlog, exclusive: true });
    return;
  }
  const native = nativeSockets();
  if (native === undefined) throw Object.assign(new Error("socket options need the package koffi"), { code: "ENOSYS" });
  const of = (list: readonly SocketOption[]): RawSocketOption[] => list.filter(({ forFamily }) => forFamily === undefined || forFamily === address.family);
  const fd = native.bind({ ...address, port }, { reusePort: options.shared, ipv6Only, options: of(socket.beforeBind) });
  try {
    for (const option of of(socket.bound)) native.setOption(fd, option);
  } catch (error) {
    native.close(fd);
    throw error;
  }
  // From here on the descriptor is the server's.
  await listening(server, { fd });
  try {
    native.listen(fd, backlog);
    for (const option of of(socket.listening)) native.setOption(fd, option);
  } catch (error) {
    server.close();
    throw error;
  }
}

function listening(server: Server, where: ListenOptions & { readonly fd?: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(where, () => {
      server.off("error", reject);
      resolve();
    });
  });
}
