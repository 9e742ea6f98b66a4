/** envoy.path.match.uri_template.uri_template_matcher */
import type { UriTemplateMatchConfig } from "../../../../config/schema/types/envoy.extensions.path.match.uri_template.v3.d.ts";
import type { PathMatchExtension } from "../../../../matching/path-policy.ts";
import { parseUriTemplate, UriTemplateError } from "../../../../matching/uri-template.ts";
import type { Extension, Honours } from "../../../extension.ts";

const honours: Honours = { "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig": "*" };

const pathMatch: PathMatchExtension = {
  compile(message, context) {
    const config = message as UriTemplateMatchConfig;
    try {
      return parseUriTemplate(config.pathTemplate);
    } catch (error) {
      if (!(error instanceof UriTemplateError)) throw error;
      context.report(config, "path_template", { code: "OR3214", text: `path_match_policy.path_template: ${error.message}` });
      return undefined;
    }
  },
};

export default { honours, other: { pathMatch } } satisfies Extension;
