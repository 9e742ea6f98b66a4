/** Bytes of a core.v3.DataSource: a certificate, a key, a password. */
import type { DataSource } from "../../config/schema/types/envoy.config.core.v3.d.ts";
import type { CompileContext } from "../../extensions/extension.ts";

/** undefined where there is none, or it cannot be had (then a finding says so). The bytes may be secret: they are not for messages. */
export function readDataSource(source: DataSource | undefined, context: CompileContext): Buffer | undefined {
  if (source === undefined) return undefined;
  const { specifier } = source;
  switch (specifier.case) {
    case "inlineString":
      return Buffer.from(specifier.value);
    case "inlineBytes":
      return Buffer.from(specifier.value);
    case "filename":
      return context.readFile(specifier.value, source, "filename");
    case "environmentVariable": {
      const value = process.env[specifier.value];
      if (value !== undefined) return Buffer.from(value);
      context.report(source, "environment_variable", { code: "OR3102", text: `Environment variable doesn't exist: ${specifier.value}` });
      return undefined;
    }
    default:
      return undefined;
  }
}

/** How messages name a source, as Envoy: the file, or "<inline>". */
export function sourceName(source: DataSource | undefined): string {
  return source?.specifier.case === "filename" ? source.specifier.value : "<inline>";
}
