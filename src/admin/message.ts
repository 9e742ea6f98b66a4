/** The message that configures the admin filter. Not part of the API: a configuration cannot name it, the server makes it from bootstrap.admin. */
import type { StringMatcher } from "../config/schema/types/envoy.type.matcher.v3.d.ts";

export const adminFilterMessage = "outrider.internal.AdminFilter";

export interface AdminFilterMessage {
  $typeName: typeof adminFilterMessage;
  /** When there are any: all that may be asked for, matched with the query. */
  allowPaths: StringMatcher[];
}
