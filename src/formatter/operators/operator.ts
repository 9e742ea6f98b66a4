/** What the rows of the operator tables are made of. A table per area stands beside this file; formatter/compile.ts puts them together. */
import type { CompileContext } from "../../extensions/extension.ts";
import type { FormatContext, Operator } from "../formatter.ts";

/** A mistake in a format; its message is the finding's text (Envoy's wording). */
export class FormatError extends Error {}

/** What an operator may need while it is being compiled. */
export interface OperatorScope {
  /** Compiles an operator inside another one (COALESCE). */
  compile(command: string, argument: string, maxLength: number | undefined): Operator;
  readonly context: CompileContext | undefined;
}

export interface OperatorRow {
  /** Whether `(...)` must not, may or must stand behind the name. */
  readonly parameters: "none" | "optional" | "required";
  /** Whether `:length` may stand at the end. */
  readonly length?: true;
  make(argument: string, maxLength: number | undefined, scope: OperatorScope): Operator;
}
export type OperatorTable = Readonly<Record<string, OperatorRow>>;

/** A row without parameters that gives text. The empty string is a value: give undefined for "nothing there". */
export function text(read: (context: FormatContext) => string | undefined): OperatorRow {
  const operator: Operator = { text: read };
  return { parameters: "none", make: () => operator };
}

/** As `text`, where an empty string means that there is nothing. */
export function nonEmpty(read: (context: FormatContext) => string | undefined): OperatorRow {
  return text((context) => {
    const value = read(context);
    return value === "" ? undefined : value;
  });
}

/** A row without parameters that gives a number, which JSON formats keep as one. */
export function number(read: (context: FormatContext) => number | undefined): OperatorRow {
  const operator: Operator = {
    text: (context) => {
      const value = read(context);
      return value === undefined ? undefined : String(value);
    },
    json: read,
  };
  return { parameters: "none", make: () => operator };
}

const notAscii = /[^\x00-\x7f]/;

/** Configuration text (Unicode) as a string of bytes, which is what headers are and what is written. */
export function toBytes(value: string): string {
  return notAscii.test(value) ? Buffer.from(value, "utf8").toString("latin1") : value;
}

/** `maxLength` counts bytes; undefined means no limit. */
export function truncate(value: string, maxLength: number | undefined): string {
  return maxLength !== undefined && value.length > maxLength ? value.slice(0, maxLength) : value;
}
