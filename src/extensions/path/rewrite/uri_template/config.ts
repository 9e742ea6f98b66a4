/** envoy.path.rewrite.uri_template.uri_template_rewriter */
import type { UriTemplateRewriteConfig } from "../../../../config/schema/types/envoy.extensions.path.rewrite.uri_template.v3.d.ts";
import type { PathRewriteExtension } from "../../../../matching/path-policy.ts";
import { parseUriTemplateRewrite, UriTemplateError, type UriTemplateRewrite } from "../../../../matching/uri-template.ts";
import type { Extension, Honours } from "../../../extension.ts";

const honours: Honours = { "envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig": "*" };

const pathRewrite: PathRewriteExtension = {
  compile(message, context, match) {
    const config = message as UriTemplateRewriteConfig;
    let template: UriTemplateRewrite;
    try {
      template = parseUriTemplateRewrite(config.pathTemplateRewrite);
    } catch (error) {
      if (!(error instanceof UriTemplateError)) throw error;
      context.report(config, "path_template_rewrite", { code: "OR3214", text: `path_rewrite_policy.path_template_rewrite: ${error.message}` });
      return undefined;
    }
    if (match === undefined) {
      context.report(config, undefined, {
        code: "OR3215",
        text: `unable to use envoy.path.rewrite.uri_template.uri_template_rewriter extension without envoy.path.match.uri_template.uri_template_matcher extension`,
      });
      return undefined;
    }
    for (const name of template.variables) {
      if (!match.variables.includes(name)) {
        context.report(config, "path_template_rewrite", {
          code: "OR3216",
          text: `mismatch between variables in path_match_policy "${match.text}" and path_rewrite_policy "${config.pathTemplateRewrite}": no variable "${name}"`,
        });
        return undefined;
      }
    }
    return (path) => {
      const values = match.match(path);
      return values === undefined ? undefined : template.rewrite(match.variables, values);
    };
  },
};

export default { honours, other: { pathRewrite } } satisfies Extension;
