/** Services of a FileDescriptorSet with their methods and the HTTP requests (google.api.http) that stand for them. */
import { WireReader } from "../../../config/schema/wire.ts";

export interface HttpRule {
  readonly verb: string;
  readonly path: string;
  /** "": the body is not read; "*": it is the message; else a field of it. */
  readonly body: string;
  readonly responseBody: string;
}
export interface MethodDescriptor {
  readonly service: string;
  readonly name: string;
  readonly input: string;
  readonly output: string;
  readonly clientStreaming: boolean;
  readonly serverStreaming: boolean;
  readonly rules: readonly HttpRule[];
}

const field = (number: number, type = 2): number => number * 8 + type;
/** The extension google.api.http of MethodOptions. */
const httpOption = 72295728;

/** By full name. Throws where the bytes are no descriptor set. */
export function readServices(bytes: Uint8Array): Map<string, MethodDescriptor[]> {
  const services = new Map<string, MethodDescriptor[]>();
  const set = new WireReader(bytes);
  while (!set.done) {
    const tag = set.uint32();
    if (tag === field(1)) readFile(set.sub(), services);
    else set.skip(tag & 7);
  }
  return services;
}

function readFile(file: WireReader, services: Map<string, MethodDescriptor[]>): void {
  let prefix = "";
  const found: WireReader[] = [];
  while (!file.done) {
    const tag = file.uint32();
    if (tag === field(2)) prefix = `${file.string()}.`;
    else if (tag === field(6)) found.push(file.sub());
    else file.skip(tag & 7);
  }
  for (const service of found) {
    let name = "";
    const methods: WireReader[] = [];
    while (!service.done) {
      const tag = service.uint32();
      if (tag === field(1)) name = prefix + service.string();
      else if (tag === field(2)) methods.push(service.sub());
      else service.skip(tag & 7);
    }
    services.set(
      name,
      methods.map((method) => readMethod(method, name)),
    );
  }
}

function readMethod(reader: WireReader, service: string): MethodDescriptor {
  const method = { service, name: "", input: "", output: "", clientStreaming: false, serverStreaming: false, rules: [] as HttpRule[] };
  const typeName = (text: string): string => text.replace(/^\./, "");
  while (!reader.done) {
    const tag = reader.uint32();
    switch (tag) {
      case field(1):
        method.name = reader.string();
        break;
      case field(2):
        method.input = typeName(reader.string());
        break;
      case field(3):
        method.output = typeName(reader.string());
        break;
      case field(4): {
        const options = reader.sub();
        while (!options.done) {
          const option = options.uint32();
          if (option === field(httpOption)) readRule(options.sub(), method.rules);
          else options.skip(option & 7);
        }
        break;
      }
      case field(5, 0):
        method.clientStreaming = reader.uint32() !== 0;
        break;
      case field(6, 0):
        method.serverStreaming = reader.uint32() !== 0;
        break;
      default:
        reader.skip(tag & 7);
    }
  }
  return method;
}

const verbs: Readonly<Record<number, string>> = { [field(2)]: "GET", [field(3)]: "PUT", [field(4)]: "POST", [field(5)]: "DELETE", [field(6)]: "PATCH" };

function readRule(reader: WireReader, rules: HttpRule[]): void {
  let verb = "";
  let path = "";
  let body = "";
  let responseBody = "";
  const more: WireReader[] = [];
  while (!reader.done) {
    const tag = reader.uint32();
    if (verbs[tag] !== undefined) {
      verb = verbs[tag];
      path = reader.string();
    } else if (tag === field(7)) body = reader.string();
    else if (tag === field(12)) responseBody = reader.string();
    else if (tag === field(11)) more.push(reader.sub());
    else if (tag === field(8)) {
      const custom = reader.sub();
      while (!custom.done) {
        const part = custom.uint32();
        if (part === field(1)) verb = custom.string();
        else if (part === field(2)) path = custom.string();
        else custom.skip(part & 7);
      }
    } else reader.skip(tag & 7);
  }
  if (verb !== "") rules.push({ verb, path, body, responseBody });
  for (const one of more) readRule(one, rules);
}
