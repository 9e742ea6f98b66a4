import assert from "node:assert/strict";
import { test } from "node:test";
import { type Options, parseComponentLevels, parseOptions } from "./options.ts";

const options = (...argv: string[]): Options => {
  const parsed = parseOptions(argv);
  assert.ok(parsed.kind === "options", JSON.stringify(parsed));
  return parsed.options;
};
const refuses = (argv: string[], said: RegExp): void => {
  const parsed = parseOptions(argv);
  assert.ok(parsed.kind === "error", `${argv.join(" ")} is taken`);
  assert.match(parsed.text, said);
};

test("flags have Envoy's defaults and meanings", () => {
  const none = options();
  assert.deepEqual(
    [none.mode, none.logLevel, none.drainTimeS, none.drainStrategy, none.parentShutdownTimeS, none.fileFlushIntervalMs, none.fileFlushMinSizeKb],
    ["serve", "info", 600, "Gradual", 900, 10000, 64],
  );
  const all = options(..."-c a.yaml --mode validate -l warn --concurrency 0 --drain-strategy immediate --socket-mode 600 --disable-extensions a,,b".split(" "));
  assert.deepEqual(
    [all.configPath, all.mode, all.logLevel, all.concurrency, all.drainStrategy, all.socketMode, all.disabledExtensions],
    ["a.yaml", "validate", "warning", 1, "Immediate", 0o600, ["a", "b"]],
  );
});

test("a flag is refused with what is wrong, and the one that was meant", () => {
  refuses(["--concurency", "2"], /--concurency.*did you mean --concurrency/s);
  refuses(["--concurrency=2"], /write the value as a word of its own: --concurrency 2/);
  refuses(["--concurrency", "two"], /'two'/);
  refuses(["--concurrency", "4294967296"], /4294967296/);
  refuses(["--concurrency"], /Missing a value/);
  refuses(["-c", "a", "-c", "b"], /already set/);
  refuses(["--mode", "bogus"], /bogus/);
  refuses(["-l", "loud"], /loud/);
  refuses(["--local-address-ip-version", "v5"], /v5/);
  refuses(["--use-dynamic-base-id", "--restart-epoch", "1"], /--restart-epoch/);
  refuses(["extra.yaml"], /extra\.yaml/);
});

test("statistics' tags are checked and may be repeated", () => {
  assert.deepEqual(options("--stats-tag", "a:b", "--stats-tag", "c:d").statsTags, [
    { name: "a", value: "b" },
    { name: "c", value: "d" },
  ]);
  refuses(["--stats-tag", "ab"], /misformatted/);
  refuses(["--stats-tag", "a-b:c"], /invalid char/);
  refuses(["--stats-tag", "a:c.d"], /invalid char/);
});

test("levels of components", () => {
  assert.deepEqual(
    parseComponentLevels("http:debug,upstream:warn"),
    new Map([
      ["http", "debug"],
      ["upstream", "warning"],
    ]),
  );
  assert.match(String(parseComponentLevels("nosuch:debug")), /nosuch/);
  assert.match(String(parseComponentLevels("http:loud")), /loud/);
  assert.match(String(parseComponentLevels("http")), /http/);
});

test("--version, --hot-restart-version and --help win over the rest, a mistake over them", () => {
  assert.equal(parseOptions(["--version"]).kind, "version");
  assert.equal(parseOptions(["--hot-restart-version", "-l", "info"]).kind, "hot_restart_version");
  const help = parseOptions(["-h"]);
  assert.ok(help.kind === "help" && help.text.includes("--config-yaml"));
  assert.equal(parseOptions(["--version", "--nosuch"]).kind, "error");
});
