/** Heads and chunk framing as text. */
import type { HeaderMap } from "../header-map.ts";
import { type H1Settings, properCase } from "./settings.ts";

/** The field lines of a map, each with its line end. */
export function writeFields(headers: HeaderMap, format: H1Settings["nameFormat"]): string {
  const list = headers.list;
  let text = "";
  // Names kept on the way in are written as they were, whatever this side's own form is (Envoy's formatter travels with the map, too).
  const raw = headers.rawNames;
  if (format === "lower" && raw === undefined) {
    for (let i = 0; i < list.length; i += 2) text += `${list[i]}: ${list[i + 1]}\r\n`;
    return text;
  }
  for (let i = 0; i < list.length; i += 2) text += `${raw?.[i >> 1] ?? (format === "proper" ? properCase(list[i]) : list[i])}: ${list[i + 1]}\r\n`;
  return text;
}

/** "1f4\r\n" for a chunk of 500 bytes. */
export function chunkHead(length: number): string {
  return `${length.toString(16)}\r\n`;
}

export const lastChunk = "0\r\n\r\n";
