/** The home page: every command with its parameters, buttons that POST where something changes. No script, nothing loaded from elsewhere. */
import type { AdminEndpoint, AdminParam } from "../request.ts";

const style = `
:root { color-scheme: light dark; --line: #8884; --dim: #777; --warm: #b3541e; }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; margin: 0 0 1rem; }
table { border-collapse: collapse; width: 100%; }
td { border-top: 1px solid var(--line); padding: .45rem .6rem; vertical-align: top; }
td.name { white-space: nowrap; width: 1%; font-family: ui-monospace, monospace; }
form { margin: 0; }
button { font: inherit; cursor: pointer; }
button.read { background: none; border: 0; padding: 0; color: LinkText; text-decoration: underline; }
button.change { border: 1px solid var(--warm); border-radius: 4px; background: none; color: var(--warm); padding: .1rem .5rem; }
label { display: grid; grid-template-columns: 14rem 1fr; gap: .8rem; align-items: start; margin-top: .35rem; color: var(--dim); }
input[type=text], select { font: inherit; width: 100%; box-sizing: border-box; }
input[type=checkbox] { justify-self: end; margin-top: .3rem; }
`;

export function homePage(endpoints: readonly AdminEndpoint[]): string {
  const rows = endpoints.filter((endpoint) => endpoint.path !== "/").map(row);
  return `<!DOCTYPE html>
<html lang='en'>
<head>
<meta charset='utf-8'>
<meta name='viewport' content='width=device-width'>
<title>Outrider admin</title>
<style>${style}</style>
</head>
<body>
<h1>Outrider admin</h1>
<table>
${rows.join("\n")}
</table>
</body>
</html>
`;
}

function row(endpoint: AdminEndpoint): string {
  const name = escapeHtml(endpoint.path.slice(1));
  const id = name.replaceAll("/", "-");
  const params = (endpoint.params ?? []).map((param) => field(param, id));
  const post = endpoint.mutates === true;
  const command =
    post || params.length > 0
      ? `<form id='${id}' action='${name}' method='${post ? "post" : "get"}'><button class='${post ? "change" : "read"}'>${name}</button></form>`
      : `<a href='${name}'>${name}</a>`;
  return `<tr><td class='name'>${command}</td><td>${escapeHtml(endpoint.help)}${params.join("")}</td></tr>`;
}

function field(param: AdminParam, form: string): string {
  const name = escapeHtml(param.id);
  let input: string;
  if (param.kind === "boolean") input = `<input type='checkbox' name='${name}' form='${form}'>`;
  else if (param.kind === "string") input = `<input type='text' name='${name}' form='${form}'>`;
  else {
    const options = (param.options ?? []).map((option) => `<option value='${escapeHtml(option)}'>${escapeHtml(option)}</option>`);
    input = `<select name='${name}' form='${form}'>${options.join("")}</select>`;
  }
  return `<label>${input}<span><b>${name}</b>: ${escapeHtml(param.help)}</span></label>`;
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}
