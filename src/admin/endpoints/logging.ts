/** /logging: shows and sets the levels of the system log, on all threads. */
import { type Component, components, getLogger, isLevel, type Level, levels } from "../../log/log.ts";
import type { QueryParams } from "../query.ts";
import { type AdminEndpoint, text } from "../request.ts";

const usage = `usage: /logging?<name>=<level> (change single level)
usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)
usage: /logging?level=<level> (change all levels)
usage: /logging?group=<group_name>:<level> (change group of loggers)
levels: ${levels.join(" ")} 
`;

export const logging: AdminEndpoint = {
  path: "/logging",
  help: "query/change logging levels",
  mutates: true,
  params: [
    {
      kind: "string",
      id: "paths",
      help: "Change multiple logging levels by setting to <logger_name1>:<desired_level1>,<logger_name2>:<desired_level2>. If fine grain logging is enabled, use __FILE__ or a glob experision as the logger name. For example, source/common*:warning",
    },
    {
      kind: "string",
      id: "group",
      help: "Change given logger group to desired level, set to <logger_group_name>:<desired_level>. logger_group_name must be a logger name.",
    },
    { kind: "enum", id: "level", help: "desired logging level, this will change all loggers's level", options: ["", ...levels] },
  ],
  handle: ({ server, params }) => {
    const changes = parseChanges(params);
    if (typeof changes === "string") return text(`error: ${changes}\n\n${usage}${activeLoggers()}`, 400);
    if (changes.length > 0) server.setLogLevels(changes);
    return text(activeLoggers());
  },
};

function activeLoggers(): string {
  return `active loggers:\n${components.map((component) => `  ${component}: ${getLogger(component).level}\n`).join("")}\n`;
}

type Change = readonly [Component, Level];

/** What to change, all or nothing; a text says what is wrong. Empty values change nothing: the home page's form sends them. */
function parseChanges(params: QueryParams): readonly Change[] | string {
  const given = params.entries.filter(([, value]) => value !== "");
  if (given.length === 0) return [];
  if (given.length > 1) return "invalid number of parameters";
  const [name, value] = given[0];
  if (name === "level") {
    const level = parseLevel(value);
    return level === undefined ? "unknown logger level" : components.map((component) => [component, level] as const);
  }
  // Groups of loggers exist with fine-grain logging only, where each source file has a logger of its own.
  if (name === "group") return "group parameter requires fine-grain logging to be enabled";
  const pairs: (readonly [string, string])[] = name === "paths" ? value.split(",").map(splitPair) : [[name, value]];
  const changes: Change[] = [];
  for (const [logger, levelText] of pairs) {
    if (logger === "" || levelText === "") return "empty logger name or empty logger level";
    const level = parseLevel(levelText);
    if (level === undefined) return "unknown logger level";
    if (!(components as readonly string[]).includes(logger)) return "unknown logger name";
    changes.push([logger as Component, level]);
  }
  return changes;
}

function splitPair(pair: string): readonly [string, string] {
  const colon = pair.lastIndexOf(":");
  return colon < 0 ? [pair, ""] : [pair.slice(0, colon), pair.slice(colon + 1)];
}

function parseLevel(given: string): Level | undefined {
  const level = given === "warn" ? "warning" : given;
  return isLevel(level) ? level : undefined;
}
