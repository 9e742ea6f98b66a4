/** What --version, /server_info and the `version` statistic say. */
import { readFileSync } from "node:fs";

/** The Envoy release whose API and behaviour this is. */
export const envoyVersion = "1.40.0";
/** Statistics and control protocol of hot restarts: "major.minor". */
export const hotRestartVersion = "11.104";
/** Commit of the Envoy release that the API set was taken from: tools read the first field as 40 hexadecimal digits. */
const envoyCommit = "9e5580933739775e8bce696a57a2e1bc99368f23";

let own: string | undefined;

/** Outrider's own version. */
export function outriderVersion(): string {
  own ??= (JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as { version: string }).version;
  return own;
}

/** Envoy's shape: commit/version/state/build/TLS library. Tools expect words in the fields before the last. */
export function versionString(): string {
  return `${envoyCommit}/${envoyVersion}/Clean/RELEASE/Outrider-${outriderVersion()},OpenSSL-${process.versions.openssl}`;
}
