/** %COALESCE({"operators": [...]})%: the first of several operators that has a value. */
import type { JsonValue } from "../../config/message.ts";
import type { FormatContext, Operator } from "../formatter.ts";
import { FormatError, type OperatorRow, type OperatorScope, truncate } from "./operator.ts";

function compileEntry(entry: JsonValue, scope: OperatorScope): Operator {
  if (typeof entry === "string") return scope.compile(entry, "", undefined);
  if (entry === null || typeof entry !== "object" || Array.isArray(entry))
    throw new FormatError("operator entry must be either a string (command name) or an object with 'command' field");
  const { command, param = "", max_length: maxLength } = entry;
  if (typeof command !== "string") throw new FormatError("operator object must have 'command' field: key 'command' missing or not a string");
  if (typeof param !== "string") throw new FormatError("'param' field must be a string: key 'param' missing or not a string");
  if (maxLength === undefined) return scope.compile(command, param, undefined);
  if (typeof maxLength !== "number" || !Number.isInteger(maxLength))
    throw new FormatError("'max_length' field must be an integer: key 'max_length' missing or not an integer");
  if (maxLength <= 0) throw new FormatError("'max_length' must be a positive integer");
  return scope.compile(command, param, maxLength);
}

export const coalesce: OperatorRow = {
  parameters: "required",
  length: true,
  make(argument, maxLength, scope): Operator {
    let parsed: JsonValue;
    try {
      parsed = JSON.parse(argument) as JsonValue;
    } catch (error) {
      throw new FormatError(`COALESCE: failed to parse JSON configuration: ${error instanceof Error ? error.message : String(error)}`);
    }
    if (parsed === null || typeof parsed !== "object" || Array.isArray(parsed) || parsed.operators === undefined)
      throw new FormatError("COALESCE: JSON configuration must contain 'operators' array");
    const list = parsed.operators;
    if (!Array.isArray(list)) throw new FormatError("COALESCE: 'operators' must be an array: key 'operators' missing or not an array");
    if (list.length === 0) throw new FormatError("COALESCE: 'operators' array must not be empty");
    const operators = list.map((entry, index) => {
      try {
        return compileEntry(entry, scope);
      } catch (error) {
        if (error instanceof FormatError) throw new FormatError(`COALESCE: failed to parse operator at index ${index}: ${error.message}`);
        throw error;
      }
    });
    return {
      text(context: FormatContext) {
        for (const operator of operators) {
          const value = operator.text(context);
          if (value !== undefined && value !== "") return truncate(value, maxLength);
        }
        return undefined;
      },
      json(context: FormatContext) {
        for (const operator of operators) {
          const value = operator.json === undefined ? operator.text(context) : operator.json(context);
          if (value !== undefined && value !== null && value !== "") return typeof value === "string" ? truncate(value, maxLength) : value;
        }
        return undefined;
      },
    };
  },
};
