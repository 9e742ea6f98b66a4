/** softlimit OPTIONS CHILD: lowers soft limits, then becomes CHILD. */
import { type Limit, type LimitName, systemOs } from "../../os/os.ts";
import { chain } from "../chain.ts";
import { getopt } from "../getopt.ts";
import { fatal, usage } from "../messages.ts";

const USAGE =
  "softlimit [-a allbytes] [-c corebytes] [-d databytes] [-f filebytes] [-l lockbytes] [-m membytes] [-o openfiles] [-p processes] " +
  "[-r residentbytes] [-s stackbytes] [-t cpusecs] child";

const LETTERS: Readonly<Record<string, readonly LimitName[]>> = {
  a: ["as"],
  c: ["core"],
  d: ["data"],
  f: ["fsize"],
  l: ["memlock"],
  m: ["data", "stack", "memlock", "as"],
  o: ["nofile"],
  p: ["nproc"],
  r: ["rss"],
  s: ["stack"],
  t: ["cpu"],
};

export function run(args: string[]): number {
  const options = getopt("softlimit", "a:c:d:f:l:m:o:p:r:s:t:", args);
  if (options.wrong || options.rest.length === 0) return usage("softlimit", USAGE);
  // No digits are 0, as they always were.
  const wanted = new Map<LimitName, bigint | "hard">();
  for (const { letter, value } of options.given) {
    if (value !== "=" && !/^[0-9]{0,64}$/.test(value)) return usage("softlimit", USAGE);
    for (const limit of LETTERS[letter]) wanted.set(limit, value === "=" ? "hard" : BigInt(value));
  }
  const os = systemOs();
  const limits: Limit[] = [];
  for (const [limit, value] of wanted) {
    let hard: bigint;
    try {
      ({ hard } = os.getrlimit(limit));
    } catch (error) {
      return fatal("softlimit", "getrlimit failed", error);
    }
    const soft = value === "hard" || value > hard ? hard : value;
    limits.push({ name: limit, soft, hard });
  }
  return chain("softlimit", options.rest, { limits });
}
