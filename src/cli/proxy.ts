/** `outrider [Envoy's flags]`: check the configuration, then serve until a signal or /quitquitquit. */
import { hotRestartVersion, versionString } from "../server/version.ts";
import { sizeWorkers } from "./memory.ts";
import { parseOptions } from "./options.ts";

/** The exit code, or undefined while the server runs on (it sets the code itself when it ends). */
export async function runProxy(argv: readonly string[]): Promise<number | undefined> {
  const parsed = parseOptions(argv);
  switch (parsed.kind) {
    case "version":
      process.stdout.write(`\noutrider  version: ${versionString()}\n\n`);
      return 0;
    case "hot_restart_version":
      process.stdout.write(hotRestartVersion);
      return 0;
    case "help":
      process.stdout.write(parsed.text);
      return 0;
    case "error":
      process.stderr.write(`${parsed.text}\n`);
      return 1;
    case "options":
      break;
  }
  const { options } = parsed;
  if (options.configPath === "" && options.configYaml === "") {
    process.stderr.write("At least one of --config-path or --config-yaml or Options::configProto() should be non-empty: name a configuration with -c FILE\n");
    return 1;
  }
  if (options.mode === "validate") {
    const { validate } = await import("../server/validate.ts");
    return validate(options);
  }
  const wrong = sizeWorkers(process.env);
  if (wrong !== undefined) {
    process.stderr.write(`${wrong}\n`);
    return 1;
  }
  const { serve } = await import("../server/process.ts");
  return serve(options);
}
