import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { RE2JS } from "re2js";
import { compileRegex, compileSubstitution, type SafeRegex } from "./regex.ts";

function regex(pattern: string): SafeRegex {
  const result = compileRegex(pattern);
  assert.ok(result.ok, `${pattern}: ${result.ok ? "" : result.error}`);
  return result.regex;
}

function replace(pattern: string, substitution: string, text: string): string {
  const compiled = regex(pattern);
  const rewrite = compileSubstitution(substitution, compiled.groupCount);
  assert.ok(rewrite.ok);
  return compiled.replaceAll(text, rewrite.substitution);
}

test("says what is wrong in RE2's words", () => {
  const errors: Record<string, string> = {
    "(abc": "missing ): (abc",
    "abc)": "unexpected ): abc)",
    "[abc": "missing ]: [abc",
    "[z-a]": "invalid character class range: z-a",
    "[[:nope:]]": "invalid character class range: [:nope:]",
    "(?=a)": "invalid perl operator: (?=",
    "(?<!a)": "invalid perl operator: (?<!",
    "*a": "no argument for repetition operator: *",
    "a**": "bad repetition operator: **",
    "a{1001}": "invalid repetition size: {1001}",
    "(a{100}){100}": "invalid repetition size: {100}",
    "a\\": "trailing \\",
    "\\1": "invalid escape sequence: \\1",
    "\\Z": "invalid escape sequence: \\Z",
    "\\p{Nope}": "invalid character class range: \\p{Nope}",
    "(?P<a>.)(?P<a>.)": "invalid named capture group: a",
  };
  for (const [pattern, error] of Object.entries(errors)) assert.deepEqual(compileRegex(pattern), { ok: false, error }, pattern);
});

test("matches the whole text or a part of it", () => {
  assert.equal(regex("[a-c]+").fullMatch("abc"), true);
  assert.equal(regex("[a-c]+").fullMatch("abcd"), false);
  assert.equal(regex("[a-c]+").partialMatch("xxabcd"), true);
  assert.equal(regex("a|ab").fullMatch("ab"), true);
  assert.equal(regex("(?i)ABC").fullMatch("aBc"), true);
  assert.equal(regex("(?i:a)b").fullMatch("AB"), false);
  assert.equal(regex("a.b").fullMatch("a\nb"), false);
  assert.equal(regex("(?s)a.b").fullMatch("a\nb"), true);
  assert.equal(regex("^$").fullMatch(""), true);
  assert.equal(regex("a$").partialMatch("a\n"), false);
  assert.equal(regex("(?m)^b$").partialMatch("a\nb\nc"), true);
  assert.equal(regex("\\Qa.b\\E+").fullMatch("a.bb"), true);
  assert.equal(regex("[[:alpha:]_]+\\d{2,}").fullMatch("ab_12"), true);
  assert.equal(regex("x{,2}").fullMatch("x{,2}"), true);
});

test("reads values as UTF-8", () => {
  const bytes = (text: string): string => Buffer.from(text, "utf8").toString("latin1");
  assert.equal(regex("a.b").fullMatch(bytes("aéb")), true);
  assert.equal(regex("a\\pLb").fullMatch(bytes("aéb")), true);
  assert.equal(regex("aéb").fullMatch(bytes("aéb")), true);
  assert.equal(regex("[^x]").fullMatch("\xff"), false);
  assert.equal(replace("é", "e", bytes("café")), "cafe");
  assert.equal(replace("c", "é", bytes("cc")), bytes("éé"));
});

test("replaces every match with RE2's rewrite syntax", () => {
  assert.equal(replace("^/service/([^/]+)(/.*)$", "\\2/instance/\\1", "/service/foo/v1/api"), "/v1/api/instance/foo");
  assert.equal(replace("one", "two", "/xx/one/yy/one"), "/xx/two/yy/two");
  assert.equal(replace("a*", "x", "baaac"), "xbxcx");
  assert.equal(replace("(a)|b", "[\\1]", "ab"), "[a][]");
  assert.equal(replace("x", "\\\\\\0", "axb"), "a\\xb");
  assert.deepEqual(compileSubstitution("\\2", 1), {
    ok: false,
    error: "Rewrite schema requests 2 matches, but the regexp only has 1 parenthesized subexpressions.",
  });
  assert.equal(compileSubstitution("a\\", 1).ok, false);
  assert.equal(compileSubstitution("\\x", 1).ok, false);
});

const atom = fc.constantFrom("a", "b", "ab", ".", "[ab]", "[^a]", "\\d", "\\w", "c", "/", "[a-c0-9]", "(?:)", "\\b");
const pattern = fc.letrec<{ node: string; alt: string; cat: string; group: string; repeat: string }>((tie) => ({
  node: fc.oneof({ depthSize: "small", withCrossShrink: true }, atom, tie("alt"), tie("cat"), tie("group"), tie("repeat")),
  alt: fc.tuple(tie("node"), tie("node")).map(([a, b]) => `(?:${a}|${b})`),
  cat: fc.tuple(tie("node"), tie("node")).map(([a, b]) => `${a}${b}`),
  group: tie("node").map((a) => `(${a})`),
  repeat: fc.tuple(tie("node"), fc.constantFrom("*", "+", "?", "*?", "{2}", "{0,2}", "{1,}")).map(([a, op]) => `(?:${a})${op}`),
})).node;

test("gives the verdicts and replacements of a linear engine", () => {
  fc.assert(
    fc.property(pattern, fc.array(fc.constantFrom("a", "b", "c", "0", "/", "\n"), { maxLength: 12 }), (source, letters) => {
      const text = letters.join("");
      const ours = regex(source);
      const theirs = RE2JS.compile(source);
      assert.equal(ours.fullMatch(text), theirs.testExact(text), `full ${source} on ${JSON.stringify(text)}`);
      assert.equal(ours.partialMatch(text), theirs.test(text), `part ${source} on ${JSON.stringify(text)}`);
    }),
    { numRuns: 2000 },
  );
});

test("groups are those of a linear engine", () => {
  fc.assert(
    fc.property(pattern, fc.array(fc.constantFrom("a", "b", "c", "0", "/"), { maxLength: 10 }), (source, letters) => {
      const text = letters.join("");
      const ours = regex(source);
      const matcher = RE2JS.compile(source).matcher(text);
      let expected = "";
      let copied = 0;
      let last = -1;
      while (matcher.find()) {
        if (matcher.start() === matcher.end() && matcher.start() === last) continue;
        expected += `${text.slice(copied, matcher.start())}<${ours.groupCount > 0 ? (matcher.group(1) ?? "") : matcher.group(0)}>`;
        copied = matcher.end();
        last = copied;
      }
      expected += text.slice(copied);
      const rewrite = compileSubstitution(ours.groupCount > 0 ? "<\\1>" : "<\\0>", ours.groupCount);
      assert.ok(rewrite.ok);
      assert.equal(ours.replaceAll(text, rewrite.substitution), expected, `${source} on ${text}`);
    }),
    { numRuns: 1000 },
  );
});

test("hostile texts take bounded time", () => {
  const patterns = [
    "(a*)*b",
    "(a+)+$",
    "(a|a)*b",
    "(a|aa)+$",
    "(.*)*x",
    ".*a.*b.*c.*d",
    "(\\w+\\s?)+$",
    "(a?){20}a{20}",
    "x*x*x*x*x*y",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "[0-9]+x",
  ];
  const texts = ["a".repeat(50_000), "x".repeat(50_000), "a".repeat(40), `${"a".repeat(240)}!`, "0".repeat(50_000), "x".repeat(200)];
  for (const source of patterns) {
    const compiled = regex(source);
    for (const text of texts) {
      const from = performance.now();
      compiled.fullMatch(text);
      compiled.partialMatch(text);
      // Linear engines need a few hundred milliseconds here on a loaded machine; backtracking would need years.
      assert.ok(performance.now() - from < 5000, `${source} on ${text.length} characters`);
    }
  }
});
