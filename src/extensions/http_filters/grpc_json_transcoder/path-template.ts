/** Path templates of google.api.http: "/v1/{name=shelves/*}/books/{id}:archive". */

interface Variable {
  /** "book.id" as a list. */
  readonly field: readonly string[];
  /** Which segments it takes. */
  readonly start: number;
  /** One behind the last; -1: to the end. */
  readonly end: number;
}

export interface PathTemplate {
  /** Literals, "*" and, only as the last, "**". */
  readonly segments: readonly string[];
  readonly verb: string;
  readonly variables: readonly Variable[];
}

export type Unescape = "except_reserved" | "except_slash" | "all";

/** undefined: the text is no template. */
export function parseTemplate(text: string): PathTemplate | undefined {
  if (text.charCodeAt(0) !== 47) return undefined;
  const segments: string[] = [];
  const variables: Variable[] = [];
  let verb = "";
  let at = 1;
  const segment = (inner: boolean): boolean => {
    const match = /^(?:\*\*|\*|[^/{}:*=]+)/.exec(text.slice(at));
    if (match === null || (inner && match[0] === "")) return false;
    segments.push(match[0]);
    at += match[0].length;
    return true;
  };
  if (text === "/") return { segments, verb, variables };
  for (;;) {
    if (text[at] === "{") {
      const close = text.indexOf("}", at);
      const inside = close < 0 ? undefined : /^([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:=(.+))?$/.exec(text.slice(at + 1, close));
      if (inside === undefined || inside === null) return undefined;
      const start = segments.length;
      if (inside[2] === undefined) segments.push("*");
      else {
        for (const part of inside[2].split("/")) {
          if (!/^(?:\*\*|\*|[^/{}:*=]+)$/.test(part)) return undefined;
          segments.push(part);
        }
      }
      variables.push({ field: inside[1].split("."), start, end: segments.at(-1) === "**" ? -1 : segments.length });
      at = close + 1;
    } else if (!segment(false)) return undefined;
    if (at === text.length) break;
    if (text[at] === "/") {
      at++;
      continue;
    }
    if (text[at] !== ":") return undefined;
    verb = text.slice(at + 1);
    if (verb === "" || /[/{}]/.test(verb)) return undefined;
    break;
  }
  const wild = segments.indexOf("**");
  return wild >= 0 && wild !== segments.length - 1 ? undefined : { segments, verb, variables };
}

/** The values of the variables in a path (without query), or undefined where it does not fit. */
export function matchTemplate(template: PathTemplate, path: string, mode: Unescape): [field: readonly string[], value: string][] | undefined {
  let rest = path;
  if (template.verb !== "") {
    if (!rest.endsWith(`:${template.verb}`)) return undefined;
    rest = rest.slice(0, -template.verb.length - 1);
  }
  const parts = rest === "/" ? [] : rest.slice(1).split("/");
  const { segments } = template;
  const isOpen = segments.at(-1) === "**";
  if (isOpen ? parts.length < segments.length - 1 : parts.length !== segments.length) return undefined;
  for (let i = 0; i < segments.length; i++) {
    if (segments[i] === "**") break;
    if (segments[i] === "*" ? parts[i] === "" : segments[i] !== parts[i]) return undefined;
  }
  const values: [readonly string[], string][] = [];
  for (const { field, start, end } of template.variables) {
    const taken = end < 0 ? parts.slice(start) : parts.slice(start, end);
    const several = end < 0 || end - start > 1;
    values.push([field, taken.map((part) => decode(part, several ? mode : "all")).join("/")]);
  }
  return values;
}

function decode(text: string, mode: Unescape): string {
  if (!text.includes("%")) return text;
  return text.replace(/(?:%[0-9A-Fa-f]{2})+/g, (escapes) => {
    if (mode === "all") return bytesToText(escapes);
    const kept = mode === "except_slash" ? /%2[Ff]/ : /%(?:2[134689A-CFa-cf]|3[ABDFabdf]|40|5[BDbd])/;
    return escapes
      .split(new RegExp(`(${kept.source})`))
      .map((piece) => (kept.test(piece) ? piece : bytesToText(piece)))
      .join("");
  });
}

function bytesToText(escapes: string): string {
  return Buffer.from(escapes.replaceAll("%", ""), "hex").toString("utf8");
}

/** More literal segments first, so that "/a/b" comes before "/a/{x}" and both before "/a/**". */
export function specificity(template: PathTemplate): number[] {
  return template.segments.map((segment) => (segment === "**" ? 0 : segment === "*" ? 1 : 2));
}
