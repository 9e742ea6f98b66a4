/** `outrider pod`: a web server, the proxy in front of it and their logs, supervised until Ctrl-C. */
import { parsePodOptions } from "../pod/options.ts";
import { Pod } from "../pod/pod.ts";
import { PodError } from "../pod/ports.ts";
import { actAsProcessOne } from "../supervise/process-one.ts";

function complain(text: string): number {
  for (const line of text.split("\n")) process.stderr.write(`outrider pod: ${line}\n`);
  return 1;
}

export async function runPod(argv: readonly string[]): Promise<number> {
  const parsed = parsePodOptions(argv);
  if (parsed.kind === "help") {
    process.stdout.write(parsed.text);
    return 0;
  }
  if (parsed.kind === "error") return complain(parsed.text);
  actAsProcessOne("outrider pod");
  try {
    const pod = new Pod(parsed.options, process.stdout);
    process.on("SIGINT", () => pod.stop("Ctrl-C"));
    process.on("SIGTERM", () => pod.stop("SIGTERM"));
    process.on("SIGHUP", () => pod.stop("the terminal is gone"));
    process.stdout.on("error", () => {}); // a reader that left is no reason to leave services alone
    await pod.start();
    await pod.stopped;
    return 0;
  } catch (error) {
    if (error instanceof PodError) return complain(error.message);
    throw error;
  }
}
