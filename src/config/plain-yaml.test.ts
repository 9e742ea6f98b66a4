import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { stringify } from "yaml";
import { parsePlainYaml } from "./plain-yaml.ts";
import type { SyntaxNode } from "./syntax.ts";
import { parseYaml } from "./yaml-syntax.ts";

/** Types, texts and places: all that readers look at. */
function comparable(node: SyntaxNode | undefined): unknown {
  if (node === undefined) return undefined;
  switch (node.kind) {
    case "map":
      return { start: node.start, entries: node.entries.map((e) => [e.key, e.keyStart, e.keyEnd, comparable(e.value)]) };
    case "list":
      return { start: node.start, items: node.items.map(comparable) };
    case "scalar":
      return node.type === "null" ? null : [node.type, node.text, node.start];
  }
}

function agrees(text: string): boolean {
  const plain = parsePlainYaml(text);
  if (plain === undefined) return false;
  const { root, problems } = parseYaml(text);
  // Envoy's reader does not ask for indentation inside { } and [ ], and neither does the plain one.
  if (problems.some((p) => p.text.includes("must be sufficiently indented"))) return true;
  assert.deepEqual(problems, [], `the full reader refuses:\n${text}`);
  assert.deepEqual(comparable(plain), comparable(root), text);
  return true;
}

const documents = [
  "a: 1\nb: {c: [1, 2, x y], 'd e': \"f\\n\\u00e9\"}\n",
  "---\nlist:\n- a\n- b: c\n  d: e\n-\n- - 1\n  - 2\nempty:\nnext:\n  - x\n",
  "a: |\n  one\n   two\n\n  three\nb: >-\n  folded\n  text\n\n  more\nc: |+\n  keep\n\nd: x # comment\n# more\n",
  "top: value with # no comment? yes#no\nurl: http://a:80/x?y\ntime: 12:30\ndash: -5\nstar: a*b\n",
  "\"quoted key\": 1\n'it''s': \"a: b # c\"\n",
  "flow: {a: 1,\n  b: [x,\n    y], # comment\n  c: {}, d: [],\n}\n",
  '- plain\n- "x"\n- {a: b}\n- [c]\n- |\n  text\n',
  "only scalar",
  "a:\n  - b:\n      c: d\n    e: f\n  -   g: h\n      i: j\n",
  "k: ~\nl: null\nm: yes\nn: 0x1F\no: 017\np: 1.5\nq: -0\nr: +7\ns: 99999999999999999999\n",
];

test("reads what the full reader reads, at the same places", () => {
  for (const text of documents) assert.ok(agrees(text), `not taken as plain:\n${text}`);
});

test("leaves everything unusual to the full reader", () => {
  const unusual = [
    "a: &x 1\nb: *x\n",
    "a: !!str 1\n",
    "a: one\n  two\n",
    "a: 1\n---\nb: 2\n",
    "<<: {a: 1}\n",
    "? a\n: b\n",
    "a:\tb\n",
    "a: 'x\n  y'\n",
    "a: b: c\n",
    "a: [1\nb: 2",
    "a: |2\n   x\n",
    "a: 1\n b: 2\n",
    "%YAML 1.2\n---\na: 1\n",
    "a: 1\n...\n",
    "[a]: b\n",
    "[a: b]",
    "{a, b: 1}",
    "{a: b}}",
    "a\nb\n",
    "- a\nb: c\n",
    "a: >\n  x\n    y\n",
    "a: @b\n",
    "a : b\n",
    "",
  ];
  for (const text of unusual) assert.equal(parsePlainYaml(text), undefined, text);
});

const scalar = fc.oneof(
  fc.constantFrom(
    "",
    "a",
    "on",
    "No",
    "~",
    "1",
    "-1",
    "0x10",
    "010",
    "1e3",
    "a b",
    "a: b",
    "a #b",
    "#a",
    "- a",
    "-",
    ":",
    "?x",
    "*",
    "x:",
    "'",
    '"',
    "a\nb",
    "a\n\nb\n",
    " lead",
    "trail ",
    "\\",
    "{",
    "}",
    "[x",
    "a,b",
    "%",
    "@",
    "`",
    "é",
    "<<",
    "---",
    "a\n  b\n",
  ),
  fc.string({ maxLength: 12 }),
  fc.string({ unit: "grapheme", maxLength: 6 }),
);
const tree = fc.letrec((tie) => ({
  node: fc.oneof({ maxDepth: 4 }, scalar, fc.array(tie("node"), { maxLength: 4 }), fc.dictionary(scalar, tie("node"), { maxKeys: 4 })),
})).node;

test("agrees with the full reader on whatever the package writes", () => {
  let taken = 0;
  let total = 0;
  fc.assert(
    fc.property(
      tree,
      fc.constantFrom(2, 4),
      fc.boolean(),
      fc.constantFrom(null, "QUOTE_SINGLE", "QUOTE_DOUBLE", "BLOCK_LITERAL", "PLAIN"),
      fc.constantFrom("any", "flow"),
      (value, indent, indentSeq, stringType, style) => {
        const text = stringify(value, {
          indent,
          indentSeq,
          ...(stringType === null ? {} : { defaultStringType: stringType as "PLAIN" }),
          collectionStyle: style as "any",
        });
        total++;
        if (agrees(text)) taken++;
      },
    ),
    { numRuns: 400 },
  );
  assert.ok(taken > total / 4, `only ${taken} of ${total} were plain`);
});

test("leaves a marker with content behind it to the full reader", () => {
  for (const text of ["--- o: nly scalar", "--- a\n", "---\na: b\n"]) agrees(text);
});

test("agrees with the full reader on mutilated documents", () => {
  const piece = fc.constantFrom(
    " ",
    "\n",
    "  ",
    ":",
    ": ",
    "-",
    "- ",
    "#",
    " #",
    ",",
    "{",
    "}",
    "[",
    "]",
    "'",
    '"',
    "|",
    ">",
    "a",
    "&",
    "*",
    "!",
    "\\",
    "---",
    "?",
    "|\n ",
    "~",
    "0",
  );
  fc.assert(
    fc.property(fc.constantFrom(...documents), fc.array(fc.tuple(fc.nat(), fc.nat(3), piece), { minLength: 1, maxLength: 4 }), (document, edits) => {
      let text = document;
      for (const [position, remove, insert] of edits) {
        const at = position % (text.length + 1);
        text = text.slice(0, at) + insert + text.slice(at + remove);
      }
      agrees(text);
    }),
    { numRuns: 3000 },
  );
});
