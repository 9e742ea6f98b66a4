/** KeyValueMutation on the query of a path. */
import type { KeyValueMutation } from "../../../config/schema/types/envoy.config.core.v3.d.ts";
import { compileFormat } from "../../../formatter/compile.ts";
import type { FormatContext } from "../../../formatter/formatter.ts";
import type { CompileContext } from "../../extension.ts";

/** The path with its query changed. */
export type QueryMutation = (path: string, context: FormatContext) => string;

type Step = (parameters: [name: string, value: string | undefined][], context: FormatContext) => [string, string | undefined][];

export function compileQueryMutations(messages: readonly KeyValueMutation[], context: CompileContext): QueryMutation | undefined {
  if (messages.length === 0) return undefined;
  const steps = messages.flatMap((message) => compileStep(message, context));
  return (path, formatContext) => {
    const hash = path.indexOf("#");
    const fragment = hash < 0 ? "" : path.slice(hash);
    const rest = hash < 0 ? path : path.slice(0, hash);
    const at = rest.indexOf("?");
    let parameters: [string, string | undefined][] =
      at < 0 || at === rest.length - 1
        ? []
        : rest
            .slice(at + 1)
            .split("&")
            .map(parse);
    for (const step of steps) parameters = step(parameters, formatContext);
    const query = parameters.map(([name, value]) => (value === undefined ? name : `${name}=${value}`)).join("&");
    return (at < 0 ? rest : rest.slice(0, at)) + (query === "" ? "" : `?${query}`) + fragment;
  };
}

function parse(text: string): [string, string | undefined] {
  const equals = text.indexOf("=");
  return equals < 0 ? [text, undefined] : [text.slice(0, equals), text.slice(equals + 1)];
}

/** envoy.config.core.v3.KeyValueAppend.KeyValueAppendAction */
const actions = ["append", "add_if_absent", "overwrite_or_add", "overwrite"] as const;

function compileStep({ append, remove }: KeyValueMutation, context: CompileContext): Step[] {
  const steps: Step[] = [];
  if (remove !== "") steps.push((parameters) => parameters.filter(([name]) => name !== remove));
  // `record` is the newer form of `entry`.
  const key = append?.record?.key ?? append?.entry?.key;
  if (append === undefined || key === undefined) return steps;
  const text = append.record === undefined ? Buffer.from(append.entry?.value ?? new Uint8Array(0)).toString("utf8") : String(append.record.value ?? "");
  const format = compileFormat(text, context, { at: append, field: append.record === undefined ? "entry" : "record" });
  const action = actions[append.action] ?? "append";
  steps.push((parameters, formatContext) => {
    const has = parameters.some(([name]) => name === key);
    // What is not plain text would end the path, or the request.
    const next: [string, string] = [key, encodeURIComponent(Buffer.from(format.format(formatContext), "latin1").toString("utf8"))];
    switch (action) {
      case "append":
        return [...parameters, next];
      case "add_if_absent":
        return has ? parameters : [...parameters, next];
      case "overwrite":
        return has ? [...parameters.filter(([name]) => name !== key), next] : parameters;
      case "overwrite_or_add":
        return [...parameters.filter(([name]) => name !== key), next];
    }
  });
  return steps;
}
