/** getopt as daemontools has it: letters may be grouped, an argument is attached or separate, the first word that is no option ends them. */
import { complain } from "./messages.ts";

export interface Options {
  /** In the order given. */
  readonly given: readonly { readonly letter: string; readonly value: string }[];
  readonly rest: string[];
  /** A message has been printed; the caller adds its usage line. */
  readonly wrong: boolean;
}

/** `letters` as for getopt(3): a colon after a letter that takes an argument. */
export function getopt(program: string, letters: string, args: string[]): Options {
  const given: { letter: string; value: string }[] = [];
  let i = 0;
  for (; i < args.length; i++) {
    const word = args[i];
    if (word === "--") {
      i++;
      break;
    }
    if (word.length < 2 || word[0] !== "-") break;
    for (let at = 1; at < word.length; at++) {
      const letter = word[at];
      const found = letter === ":" ? -1 : letters.indexOf(letter);
      if (found < 0) {
        complain(`${program}: illegal option -- ${letter}\n`);
        return { given, rest: [], wrong: true };
      }
      if (letters[found + 1] !== ":") {
        given.push({ letter, value: "" });
        continue;
      }
      let value = word.slice(at + 1);
      if (value === "") {
        i++;
        if (i >= args.length) {
          complain(`${program}: option requires an argument -- ${letter}\n`);
          return { given, rest: [], wrong: true };
        }
        value = args[i];
      }
      given.push({ letter, value });
      break;
    }
  }
  return { given, rest: args.slice(i), wrong: false };
}
