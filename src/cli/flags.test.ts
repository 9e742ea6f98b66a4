import assert from "node:assert/strict";
import { test } from "node:test";
import { HELP as POD_HELP, parsePodOptions } from "../pod/options.ts";
import { flagsHelp, flagsOfHelp, parseFlags, type VerbFlag } from "./flags.ts";
import { VERBS } from "./verbs.ts";

const flags: readonly VerbFlag[] = [
  { name: "follow", short: "f", help: "go on" },
  { name: "lines", short: "n", value: "LINES", help: "so many" },
  { name: "colour", value: "WHEN", values: ["always", "never"], help: "when" },
];

test("flags stand anywhere, in every usual form", () => {
  for (const argv of ["web -f -n 5 db", "-fn5 web db", "web --lines=5 db --follow", "--follow --lines 5 -- web db"]) {
    assert.deepEqual(parseFlags(flags, argv.split(" ")), { kind: "flags", given: { follow: true, lines: "5" }, lists: {}, words: ["web", "db"] }, argv);
  }
  assert.deepEqual(parseFlags(flags, ["--", "-f"]), { kind: "flags", given: {}, lists: {}, words: ["-f"] });
  assert.deepEqual(parseFlags(flags, ["-h"]), { kind: "flags", given: { help: true }, lists: {}, words: [] });
});

test("a flag that may be given several times keeps all its values, with commas and equals signs in them", () => {
  const many: readonly VerbFlag[] = [{ name: "header", short: "H", value: "HEADER", many: true, help: "one" }];
  const parsed = parseFlags(many, ["-H", "a: b=c", "--header=x,y", "-Hz"]);
  assert.ok(parsed.kind === "flags");
  assert.deepEqual(parsed.lists, { header: ["a: b=c", "x,y", "z"] });
});

test("a wrong flag is refused with what was meant", () => {
  const refuses = (argv: string[], said: RegExp): void => {
    const parsed = parseFlags(flags, argv);
    assert.ok(parsed.kind === "error");
    assert.match(parsed.text, said);
  };
  refuses(["--folow"], /--folow.*did you mean --follow/);
  refuses(["-x"], /no such flag: -x/);
  refuses(["--lines"], /--lines needs a value: LINES/);
  refuses(["--follow=yes"], /--follow takes no value/);
  refuses(["--colour", "sometimes"], /always, never/);
});

test("the help text has a line a flag, and flags can be read from one", () => {
  const text = flagsHelp(flags);
  assert.equal(text.split("\n").length, 5);
  assert.deepEqual(
    flagsOfHelp(text).map((flag) => [flag.name, flag.short, flag.value, flag.values]),
    [
      ["follow", "f", undefined, undefined],
      ["lines", "n", "LINES", undefined],
      ["colour", undefined, "always|never", ["always", "never"]],
    ],
  );
});

test("the pod's help text describes flags that there are", () => {
  const described = flagsOfHelp(POD_HELP);
  assert.ok(described.length > 8);
  for (const flag of described) {
    assert.ok(flag.value !== undefined, `--${flag.name} has a value`);
    const parsed = parsePodOptions([`--${flag.name}`]);
    assert.ok(parsed.kind === "error" && parsed.text.includes("needs a value"), `--${flag.name}`);
  }
});

test("every verb has a line of help, and flags that are named once", async () => {
  for (const [name, verb] of Object.entries(VERBS)) {
    assert.ok(verb.summary.length > 0 && verb.summary.length < 90, name);
    const own = (await verb.flags?.()) ?? [];
    assert.equal(new Set(own.map((flag) => flag.name)).size, own.length, name);
  }
});
