/**
 * Path templates: /users/{id}/profile, /files/**, /v/{rest=**}.m3u8 (extensions.path.match.uri_template and its rewrite twin).
 * Grammar and limits as Envoy's uri_template_internal: `*` one segment, `**` any number (last operator only), variables {name} and {name=pattern}.
 */

type Part = { readonly kind: "literal"; readonly text: string } | { readonly kind: "one" } | { readonly kind: "any" };
interface Variable {
  readonly name: string;
  readonly parts: readonly Part[];
}
type Piece = Part | { readonly kind: "variable"; readonly variable: Variable };

const maxVariables = 5;
const maxNameLength = 16;

export class UriTemplateError extends Error {}

/** Characters that a literal may have: RFC 3986 pchar without what the grammar uses. */
const literalText = /^[A-Za-z0-9\-._~%!$&'()+,;:@=]*$/;
/** What `*` takes: one segment, as RFC 3986 has it. */
const segment = "[a-zA-Z0-9-._~%!$&'()+,;:@=]";

export interface UriTemplate {
  readonly text: string;
  readonly variables: readonly string[];
  /** Values of the variables in order, or undefined where the path (without query) does not match. */
  match(path: string): readonly string[] | undefined;
}

/** Parses a template; throws UriTemplateError. */
export function parseUriTemplate(text: string): UriTemplate {
  if (!text.startsWith("/")) throw new UriTemplateError(`Invalid path template "${text}": it must start with "/"`);
  const pieces: Piece[] = [];
  const names = new Set<string>();
  let at = 0;
  let sawAny = false;
  const readPart = (until: string): Part => {
    if (sawAny && text[at] === "*") throw new UriTemplateError(`Invalid path template "${text}": no operator may stand behind "**"`);
    if (text.startsWith("**", at)) {
      at += 2;
      sawAny = true;
      if (text[at] === "*") throw new UriTemplateError(`Invalid path template "${text}": "***"`);
      return { kind: "any" };
    }
    if (text[at] === "*") {
      at++;
      return { kind: "one" };
    }
    const from = at;
    while (at < text.length && !until.includes(text[at])) at++;
    const literal = text.slice(from, at);
    if (!literalText.test(literal) || literal === "") throw new UriTemplateError(`Invalid path template "${text}": invalid literal "${literal}"`);
    return { kind: "literal", text: literal };
  };
  while (at < text.length) {
    const c = text[at];
    if (c === "/") {
      if (text[at + 1] === "/") throw new UriTemplateError(`Invalid path template "${text}": empty segment`);
      pieces.push({ kind: "literal", text: "/" });
      at++;
    } else if (c === "{") {
      at++;
      const from = at;
      while (at < text.length && /[A-Za-z0-9_]/.test(text[at])) at++;
      const name = text.slice(from, at);
      if (!/^[A-Za-z]/.test(name)) throw new UriTemplateError(`Invalid path template "${text}": invalid variable name "${name}"`);
      if (name.length > maxNameLength)
        throw new UriTemplateError(`Invalid path template "${text}": variable name "${name}" is longer than ${maxNameLength} characters`);
      if (names.has(name)) throw new UriTemplateError(`Invalid path template "${text}": repeated variable "${name}"`);
      names.add(name);
      if (names.size > maxVariables) throw new UriTemplateError(`Invalid path template "${text}": more than ${maxVariables} variables`);
      if (sawAny) throw new UriTemplateError(`Invalid path template "${text}": no operator may stand behind "**"`);
      const parts: Part[] = [];
      if (text[at] === "=") {
        at++;
        while (at < text.length && text[at] !== "}") {
          if (text[at] === "/") {
            parts.push({ kind: "literal", text: "/" });
            at++;
          } else parts.push(readPart("/}*{"));
        }
        if (parts.length === 0) throw new UriTemplateError(`Invalid path template "${text}": empty variable pattern`);
      } else parts.push({ kind: "one" });
      if (text[at] !== "}") throw new UriTemplateError(`Invalid path template "${text}": unmatched "{"`);
      at++;
      pieces.push({ kind: "variable", variable: { name, parts } });
    } else pieces.push(readPart("/{*"));
  }
  checkNeighbours(pieces, text);
  const variables = [...names];
  // Built from escaped literals and two fixed classes. `**` may stand once and `*` cannot cross "/", so backtracking is bounded by segment lengths.
  const regex = new RegExp(
    `^${pieces.map((piece) => (piece.kind === "variable" ? `(${piece.variable.parts.map(partPattern).join("")})` : partPattern(piece))).join("")}$`,
  );
  return {
    text,
    variables,
    match(path) {
      const found = regex.exec(path);
      return found === null ? undefined : found.slice(1);
    },
  };
}

function checkNeighbours(pieces: readonly Piece[], text: string): void {
  let operators = 0;
  for (const piece of pieces) {
    const isSlash = piece.kind === "literal" && piece.text === "/";
    if (isSlash) {
      operators = 0;
      continue;
    }
    if (piece.kind !== "literal") operators++;
    if (operators > 1) throw new UriTemplateError(`Invalid path template "${text}": two operators in one segment`);
  }
}

function partPattern(part: Part): string {
  switch (part.kind) {
    case "literal":
      return part.text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
    case "one":
      return `${segment}+`;
    case "any":
      return `(?:${segment}|\\/)*`;
  }
}

/** A rewrite pattern: /{rest}/in/{lang}. */
export interface UriTemplateRewrite {
  readonly variables: readonly string[];
  /** The new path from the variables of a match. */
  rewrite(names: readonly string[], values: readonly string[]): string;
}

export function parseUriTemplateRewrite(text: string): UriTemplateRewrite {
  if (!text.startsWith("/")) throw new UriTemplateError(`Invalid path rewrite template "${text}": it must start with "/"`);
  const parts: { readonly literal: string; readonly variable: string | undefined }[] = [];
  const variables: string[] = [];
  let at = 0;
  while (at < text.length) {
    const open = text.indexOf("{", at);
    const literal = text.slice(at, open < 0 ? text.length : open);
    if (literal.includes("}")) throw new UriTemplateError(`Invalid path rewrite template "${text}": unmatched "}"`);
    if (literal.includes("//") || !/^[A-Za-z0-9\-._~%!$&'()*+,;:@=/]*$/.test(literal))
      throw new UriTemplateError(`Invalid path rewrite template "${text}": invalid literal "${literal}"`);
    if (open < 0) {
      parts.push({ literal, variable: undefined });
      break;
    }
    const close = text.indexOf("}", open);
    if (close < 0) throw new UriTemplateError(`Invalid path rewrite template "${text}": unmatched "{"`);
    const name = text.slice(open + 1, close);
    if (!/^[A-Za-z][A-Za-z0-9_]*$/.test(name)) throw new UriTemplateError(`Invalid path rewrite template "${text}": invalid variable name "${name}"`);
    variables.push(name);
    parts.push({ literal, variable: name });
    at = close + 1;
  }
  return {
    variables,
    rewrite(names, values) {
      let path = "";
      for (const part of parts) {
        path += part.literal;
        if (part.variable !== undefined) path += values[names.indexOf(part.variable)] ?? "";
      }
      return path;
    },
  };
}
