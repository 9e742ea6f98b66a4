import assert from "node:assert/strict";
import { test } from "node:test";
import { parsePodOptions, parseRemote } from "./options.ts";
import { shellQuote } from "./service-files.ts";

test("reads ports as a number, an address and a number, 0 or auto", () => {
  const parsed = parsePodOptions(["--ingress", "8080", "--admin=[::1]:0", "--web-port", "auto", "--egress-port", "127.0.0.2:9"]);
  assert.ok(parsed.kind === "options");
  assert.deepEqual(parsed.options.ingress, { host: "0.0.0.0", port: 8080 });
  assert.deepEqual(parsed.options.admin, { host: "::1", port: 0 });
  assert.deepEqual(parsed.options.webPort, { host: "127.0.0.1", port: 0 });
  assert.deepEqual(parsed.options.egressPort, { host: "127.0.0.2", port: 9 });
});

test("says which flag is wrong and what it takes", () => {
  const text = (...argv: string[]): string => {
    const parsed = parsePodOptions(argv);
    return parsed.kind === "error" ? parsed.text : parsed.kind;
  };
  assert.match(text("--ingres", "1"), /no such flag: --ingres /);
  assert.match(text("--ingress", "65536"), /--ingress 65536: must be a port/);
  assert.match(text("--ingress"), /needs a value/);
  assert.match(text("--log-size", "12"), /4096 to 16777215/);
  assert.match(text("--egress", "somewhere"), /HOST:PORT/);
  assert.equal(text("--help"), "help");
});

test("a remote service is a host and port, or a URL; TLS for https and port 443", () => {
  assert.deepEqual(parseRemote("example.com:80"), { host: "example.com", port: 80, tls: false });
  assert.deepEqual(parseRemote("example.com:443"), { host: "example.com", port: 443, tls: true });
  assert.deepEqual(parseRemote("https://example.com:8443/"), { host: "example.com", port: 8443, tls: true });
  assert.deepEqual(parseRemote("http://[::1]"), { host: "::1", port: 80, tls: false });
  assert.equal(parseRemote("example.com"), undefined);
  assert.equal(parseRemote("example.com:0"), undefined);
  assert.equal(parseRemote("a b:1"), undefined);
});

test("words for the shell stay one word", () => {
  assert.equal(shellQuote("/usr/bin/x-1"), "/usr/bin/x-1");
  assert.equal(shellQuote("it's $HOME"), "'it'\\''s $HOME'");
  assert.equal(shellQuote(""), "''");
});
