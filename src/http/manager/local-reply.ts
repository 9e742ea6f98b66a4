/** local_reply_config: mappers that change local replies, and their body's format. */
import type { LocalReplyConfig } from "../../config/schema/types/envoy.extensions.filters.network.http_connection_manager.v3.d.ts";
import type { CompileContext, Honours } from "../../extensions/extension.ts";
import { compileAccessLogFilter } from "../../formatter/access-log-filter.ts";
import { compileSubstitutionFormatString, type SubstitutionFormatter } from "../../formatter/compile.ts";
import type { FormatContext } from "../../formatter/formatter.ts";
import { compileHeaderMutation, type HeaderMutation } from "../../router/header-mutation.ts";
import type { ResponseHeaders } from "../header-map.ts";

const pkg = "envoy.extensions.filters.network.http_connection_manager.v3.";
export const honours: Honours = { [`${pkg}LocalReplyConfig`]: "*", [`${pkg}ResponseMapper`]: "*" };

export interface LocalReplies {
  /** Applies the first mapper that fits and the format: changes status and fields in `headers`, gives the body. */
  rewrite(context: FormatContext & { readonly responseHeaders: ResponseHeaders }, body: string): { readonly body: string; readonly contentType: string };
}

interface Mapper {
  readonly fits: (context: FormatContext) => boolean;
  readonly status: number | undefined;
  readonly body: string | undefined;
  readonly format: SubstitutionFormatter | undefined;
  readonly headers: HeaderMutation | undefined;
}

export function compileLocalReplies(message: LocalReplyConfig, context: CompileContext): LocalReplies {
  const format = message.bodyFormat === undefined ? undefined : compileSubstitutionFormatString(message.bodyFormat, context);
  const mappers: Mapper[] = message.mappers.map((mapper) => ({
    fits: mapper.filter === undefined ? () => true : compileAccessLogFilter(mapper.filter, context),
    status: mapper.statusCode,
    body: mapper.body === undefined ? undefined : readSource(mapper.body, context),
    format: mapper.bodyFormatOverride === undefined ? undefined : compileSubstitutionFormatString(mapper.bodyFormatOverride, context),
    headers: compileHeaderMutation({ add: mapper.headersToAdd, remove: [], at: mapper, removeField: "" }, context),
  }));
  return {
    rewrite(given, body) {
      let chosen = format;
      let text = body;
      const { responseHeaders, info } = given;
      for (const mapper of mappers) {
        if (!mapper.fits(given)) continue;
        if (mapper.headers !== undefined) mapper.headers.evaluate(responseHeaders, info, given.requestHeaders, responseHeaders);
        if (mapper.status !== undefined) {
          responseHeaders.status = mapper.status;
          info.responseCode = mapper.status;
        }
        if (mapper.body !== undefined) text = mapper.body;
        if (mapper.format !== undefined) chosen = mapper.format;
        break;
      }
      if (chosen === undefined) return { body: text, contentType: "text/plain" };
      return { body: chosen.format({ ...given, localReplyBody: text }), contentType: chosen.contentType };
    },
  };
}

function readSource(source: NonNullable<LocalReplyConfig["mappers"][number]["body"]>, context: CompileContext): string | undefined {
  const { specifier } = source;
  switch (specifier.case) {
    case "inlineString":
      return specifier.value;
    case "inlineBytes":
      return Buffer.from(specifier.value).toString("latin1");
    case "filename":
      return context.readFile(specifier.value, source, "filename")?.toString("latin1");
    case "environmentVariable": {
      const value = process.env[specifier.value];
      if (value === undefined) context.report(source, "environment_variable", { code: "OR5004", text: `environment variable ${specifier.value} is not set` });
      return value;
    }
    default:
      return undefined;
  }
}
