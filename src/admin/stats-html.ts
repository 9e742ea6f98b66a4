/** /stats?format=html and active-html: the form, the numbers, histograms as bars. The active page polls and puts what changes most on top. */
import { createHash } from "node:crypto";
import { escapeHtml } from "./endpoints/home.ts";
import { type StatsParams, statsTypes } from "./stats-params.ts";
import { percentiles, type ShownHistogram, type ShownStat, shortest, shortG } from "./stats-view.ts";

const style = `
:root { color-scheme: light dark; --line: #8884; --dim: #777; --bar: #3b7dd8; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem; }
form { display: flex; flex-wrap: wrap; gap: .8rem; align-items: center; margin-bottom: 1rem; }
input[type=text] { width: 26rem; max-width: 100%; }
pre { font: 13px/1.4 ui-monospace, monospace; }
figure { margin: 0 0 1.2rem; border-top: 1px solid var(--line); padding-top: .5rem; }
figcaption { font: 13px ui-monospace, monospace; }
svg { display: block; width: 100%; height: 90px; }
svg rect { fill: var(--bar); }
p.quantiles { color: var(--dim); font: 12px ui-monospace, monospace; margin: .2rem 0 0; }
table { border-collapse: collapse; font: 13px ui-monospace, monospace; }
td, th { padding: .1rem .8rem .1rem 0; text-align: left; }
`;

/** Polls the JSON form of the same query; a statistic's rank is how often it was seen to change. */
const activeScript = `
"use strict";
const seen = new Map();
const body = document.getElementById("rows");
const status = document.getElementById("status");
const number = (id) => Math.max(1, Number(document.getElementById(id).value) || 1);
async function poll() {
  try {
    const query = new URLSearchParams(new FormData(document.getElementById("query")));
    query.set("format", "json");
    const answer = await fetch("stats?" + query, { cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status + " " + (await answer.text()));
    for (const { name, value } of (await answer.json()).stats) {
      if (name === undefined) continue;
      const entry = seen.get(name);
      if (entry === undefined) seen.set(name, { value, changes: 0 });
      else if (entry.value !== value) { entry.value = value; entry.changes++; }
    }
    const top = [...seen].sort((a, b) => b[1].changes - a[1].changes || (a[0] < b[0] ? -1 : 1)).slice(0, number("max"));
    body.replaceChildren(...top.map(([name, { value, changes }]) => {
      const row = document.createElement("tr");
      for (const text of [value, changes, name]) row.appendChild(document.createElement("td")).textContent = text;
      return row;
    }));
    status.textContent = "";
  } catch (error) {
    status.textContent = String(error);
  }
  setTimeout(poll, number("interval") * 1000);
}
poll();
`;

const scriptHash = createHash("sha256").update(activeScript).digest("base64");
export const statsHtmlSecurity = [
  [
    "content-security-policy",
    `default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${scriptHash}'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'`,
  ],
] as const;

export function* statsHtml(stats: Iterable<ShownStat>, histograms: Iterable<ShownHistogram>, params: StatsParams): Generator<string> {
  const active = params.format === "active-html";
  yield head(params);
  if (active) {
    yield "<p>Most changes first, at most <input id='max' type='number' min='1' value='50'>, every <input id='interval' type='number' min='1' value='5'> seconds. <span id='status'></span></p>\n";
    yield "<table><thead><tr><th>Value</th><th>Changes</th><th>Name</th></tr></thead><tbody id='rows'></tbody></table>\n";
    yield `<script>${activeScript}</script>\n`;
  } else {
    yield "<pre>\n";
    for (const stat of stats) yield escapeHtml(`${stat.name}: ${typeof stat.value === "string" ? `"${stat.value}"` : stat.value}\n`);
    yield "</pre>\n";
    for (const histogram of histograms) yield figure(histogram);
  }
  yield "</body>\n</html>\n";
}

function head(params: StatsParams): string {
  const option = (value: string, chosen: string) => `<option${value === chosen ? " selected" : ""}>${value}</option>`;
  const select = (name: string, values: readonly string[], chosen: string) =>
    `<label>${name} <select name='${name}'>${values.map((value) => option(value, chosen)).join("")}</select></label>`;
  return `<!DOCTYPE html>
<html lang='en'>
<head>
<meta charset='utf-8'>
<meta name='viewport' content='width=device-width'>
<title>Outrider statistics</title>
<style>${style}</style>
</head>
<body>
<form id='query' action='stats' method='get'>
<label>filter <input type='text' name='filter' value='${escapeHtml(params.filter)}'></label>
<label><input type='checkbox' name='usedonly'${params.usedOnly ? " checked" : ""}> usedonly</label>
${select("type", statsTypes, params.type)}
${select("format", ["html", "active-html", "text", "json"], params.format)}
<button>show</button>
</form>
`;
}

function figure({ name, used, cumulative }: ShownHistogram): string {
  if (!used || cumulative.bins.length === 0)
    return `<figure><figcaption>${escapeHtml(name)}</figcaption><p class='quantiles'>No recorded values</p></figure>\n`;
  const bins = cumulative.bins;
  const most = Math.max(...bins.map((bin) => bin.count));
  const step = 1000 / bins.length;
  const bars = bins.map(({ lower, width, count }, i) => {
    const height = Math.max(1, Math.round((count / most) * 80));
    return `<rect x='${(i * step).toFixed(1)}' y='${85 - height}' width='${Math.max(step - 2, 0.5).toFixed(1)}' height='${height}'><title>[${shortG(lower)}, ${shortG(lower + width)}): ${count}</title></rect>`;
  });
  const summary = percentiles.map((p, i) => `P${p}=${shortest(cumulative.quantileValues[i])}`).join(" ");
  return `<figure><figcaption>${escapeHtml(name)}: ${cumulative.count}</figcaption><svg viewBox='0 0 1000 90' preserveAspectRatio='none'>${bars.join("")}</svg><p class='quantiles'>${summary}</p></figure>\n`;
}
