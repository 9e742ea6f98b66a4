/** The application: counts visits in the database, which for it is a port on this machine. It knows nothing of TLS. */
import { createServer, type Server } from "node:http";
import { connect } from "node:net";

export function shop(databasePort: number): Server {
  return createServer((_request, response) => {
    const socket = connect({ port: databasePort, host: "127.0.0.1" });
    let text = "";
    socket.setEncoding("utf8");
    socket.setTimeout(5000, () => socket.destroy());
    socket.on("connect", () => socket.write("INCR visits\r\n"));
    socket.on("error", () => {});
    socket.on("data", (chunk: string) => {
      text += chunk;
      if (text.endsWith("\r\n")) socket.end();
    });
    socket.on("close", () => {
      const visits = /^:(\d+)\r\n$/.exec(text)?.[1];
      response.writeHead(visits === undefined ? 502 : 200, { "content-type": "text/plain" });
      response.end(visits === undefined ? "the database does not answer\n" : `visit ${visits}\n`);
    });
  });
}
