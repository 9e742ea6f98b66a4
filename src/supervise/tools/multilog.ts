/** multilog SCRIPT...: writes lines from standard input to log directories with rotation. ALRM rotates at once, TERM ends after the current line. */
import { rawArguments } from "../chain.ts";
import { fatal } from "../messages.ts";
import { type Input, readInput } from "../multilog/input.ts";
import { openPeek } from "../multilog/peek.ts";
import { Script } from "../multilog/script.ts";
import { SuperviseError } from "../status-files.ts";

export function run(args: string[]): Promise<number> {
  process.umask(0o022);
  return new Promise((resolve) => {
    let script: Script;
    let input: Input;
    const end = (error?: unknown): void => {
      script.close();
      resolve(error === undefined ? 0 : fatal("multilog", "unable to read input", error));
    };
    process.on("SIGALRM", () => script.rotate());
    process.once("SIGTERM", () => {
      input.stop();
      if (!script.isInLine) {
        end();
        return;
      }
      // The rest of the line byte by byte: what follows it is for a successor.
      process.on("SIGTERM", () => {});
      input = readInput(
        (bytes) => {
          script.feed(bytes);
          if (script.isInLine) return;
          input.stop();
          end();
        },
        end,
        1,
      );
    });
    // After the signals: whoever sees the locked directory may send one. They are heard once this function is done.
    try {
      const peek = openPeek();
      script = new Script(rawArguments(args), () => peek?.look());
      input = peek?.read(script, end) ?? readInput((bytes) => script.feed(bytes), end);
    } catch (error) {
      if (!(error instanceof SuperviseError)) throw error;
      resolve(fatal("multilog", error.message, error.reason));
    }
  });
}
