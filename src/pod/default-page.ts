/** What the web server shows when it was given no folder. */
import { type Endpoint, formatEndpoint } from "./options.ts";

export interface PageFacts {
  readonly server: string;
  readonly directory: string;
  readonly admin: Endpoint;
  readonly egress: Endpoint;
}

const ESCAPES: Readonly<Record<string, string>> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };
const escapeHtml = (text: string): string => text.replace(/[&<>"]/g, (character) => ESCAPES[character]);

export function defaultPage(facts: PageFacts): string {
  const admin = `http://${formatEndpoint(facts.admin)}/`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Outrider</title>
<style>
  :root { color-scheme: light dark; font: 1rem/1.6 system-ui, sans-serif; }
  body { max-width: 40rem; margin: 12vh auto; padding: 0 1.5rem; }
  h1 { font-size: 1.6rem; margin-bottom: 0; }
  dt { font-weight: 600; margin-top: 1rem; }
  dd { margin: 0; }
  code { font-size: 0.95em; }
</style>
</head>
<body>
<h1>It works, through the proxy</h1>
<p>This page came from the pod's web server (${escapeHtml(facts.server)}), by way of Outrider.</p>
<dl>
<dt>Serve your own folder</dt><dd><code>outrider pod --root DIR</code></dd>
<dt>Run your own program behind the proxy</dt><dd><code>outrider pod --web "COMMAND"</code>, listening on <code>127.0.0.1:$PORT</code></dd>
<dt>Statistics, configuration, log levels</dt><dd><a href="${escapeHtml(admin)}">${escapeHtml(admin)}</a></dd>
<dt>Calls to a remote service</dt><dd><code>http://${escapeHtml(formatEndpoint(facts.egress))}/</code>, with <code>--egress HOST:PORT</code></dd>
<dt>Configuration, service directories, logs</dt><dd><code>${escapeHtml(facts.directory)}</code></dd>
</dl>
</body>
</html>
`;
}
