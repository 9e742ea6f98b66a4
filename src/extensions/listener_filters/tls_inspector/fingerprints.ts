/**
 * JA3 and JA4 fingerprints of a TLS client hello: which software the client is, as far as its hello tells.
 * https://github.com/salesforce/ja3, https://github.com/FoxIO-LLC/ja4/blob/main/technical_details/JA4.md
 */
import { createHash } from "node:crypto";

/** The parts of a hello that fingerprints are made of, GREASE values (RFC 8701) left out. */
interface HelloParts {
  readonly version: number;
  readonly ciphers: readonly number[];
  readonly extensions: readonly number[];
  readonly groups: readonly number[];
  readonly pointFormats: readonly number[];
  readonly signatureAlgorithms: readonly number[];
  readonly supportedVersions: readonly number[];
  readonly hasServerName: boolean;
  readonly firstAlpn: Buffer | undefined;
}

/** `body`: the hello's handshake message without its four bytes of head. undefined where a length in it is wrong. */
export function parseHelloParts(body: Buffer): HelloParts | undefined {
  if (body.length < 35) return undefined;
  let at = 35 + body[34];
  if (at + 2 > body.length) return undefined;
  const cipherBytes = body.readUInt16BE(at);
  const ciphers = numbers(body.subarray(at + 2, at + 2 + cipherBytes));
  at += 2 + cipherBytes;
  if (at >= body.length) return undefined;
  at += 1 + body[at];
  const extensions: number[] = [];
  let groups: readonly number[] = [];
  let pointFormats: readonly number[] = [];
  let signatureAlgorithms: readonly number[] = [];
  let supportedVersions: readonly number[] = [];
  let hasServerName = false;
  let firstAlpn: Buffer | undefined;
  if (at + 2 <= body.length) {
    const end = Math.min(body.length, at + 2 + body.readUInt16BE(at));
    at += 2;
    while (at + 4 <= end) {
      const type = body.readUInt16BE(at);
      const data = body.subarray(at + 4, Math.min(end, at + 4 + body.readUInt16BE(at + 2)));
      at += 4 + body.readUInt16BE(at + 2);
      if (isGrease(type)) continue;
      extensions.push(type);
      if (type === 0) hasServerName = true;
      else if (type === 10) groups = numbers(data.subarray(2));
      else if (type === 11) pointFormats = [...data.subarray(1)];
      else if (type === 13) signatureAlgorithms = numbers(data.subarray(2));
      else if (type === 16 && data.length > 3) firstAlpn = data.subarray(3, 3 + data[2]);
      else if (type === 43) supportedVersions = numbers(data.subarray(1));
    }
  }
  return { version: body.readUInt16BE(0), ciphers, extensions, groups, pointFormats, signatureAlgorithms, supportedVersions, hasServerName, firstAlpn };
}

export function ja3(hello: HelloParts): string {
  const list = (values: readonly number[]): string => values.join("-");
  const text = `${hello.version},${list(hello.ciphers)},${list(hello.extensions)},${list(hello.groups)},${list(hello.pointFormats)}`;
  return createHash("md5").update(text).digest("hex");
}

const versionNames: Readonly<Record<number, string>> = { 772: "13", 771: "12", 770: "11", 769: "10", 768: "s3", 2: "s2" };

export function ja4(hello: HelloParts): string {
  const version = versionNames[hello.supportedVersions.length > 0 ? Math.max(...hello.supportedVersions) : hello.version] ?? "00";
  const count = (list: readonly number[]): string => String(Math.min(99, list.length)).padStart(2, "0");
  const head = `t${version}${hello.hasServerName ? "d" : "i"}${count(hello.ciphers)}${count(hello.extensions)}${alpnMark(hello.firstAlpn)}`;
  const ciphers = digest(hello.ciphers.map(hex).sort().join(","));
  // What every client has, or what names the destination, says nothing of the client.
  const extensions = hello.extensions
    .filter((type) => type !== 0 && type !== 16)
    .map(hex)
    .sort()
    .join(",");
  const algorithms = hello.signatureAlgorithms.map(hex).join(",");
  return `${head}_${ciphers}_${digest(algorithms === "" ? extensions : `${extensions}_${algorithms}`)}`;
}

/** The first and the last character of the first protocol; their hexadecimal digits where they are no letters or digits. */
function alpnMark(alpn: Buffer | undefined): string {
  if (alpn === undefined || alpn.length === 0) return "00";
  const first = alpn[0];
  const last = alpn[alpn.length - 1];
  if (isAlphanumeric(first) && isAlphanumeric(last)) return String.fromCharCode(first, last);
  return alpn.subarray(0, 1).toString("hex")[0] + alpn.subarray(alpn.length - 1).toString("hex")[1];
}

function isAlphanumeric(code: number): boolean {
  return (code >= 48 && code <= 57) || (code >= 65 && code <= 90) || (code >= 97 && code <= 122);
}

function digest(text: string): string {
  return text === "" ? "000000000000" : createHash("sha256").update(text).digest("hex").slice(0, 12);
}

function hex(value: number): string {
  return value.toString(16).padStart(4, "0");
}

function isGrease(value: number): boolean {
  return (value & 0x0f0f) === 0x0a0a && value >> 8 === (value & 0xff);
}

function numbers(data: Buffer): number[] {
  const found: number[] = [];
  for (let at = 0; at + 2 <= data.length; at += 2) {
    const value = data.readUInt16BE(at);
    if (!isGrease(value)) found.push(value);
  }
  return found;
}
