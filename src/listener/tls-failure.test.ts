import assert from "node:assert/strict";
import { test } from "node:test";
import { tlsFailure } from "./tls-failure.ts";

test("failures of handshakes have the numbers and names that Envoy logs", () => {
  const error = (fields: object): Error => Object.assign(new Error("C0E6FE3D747F0000:error:0A00010B:SSL routines:..."), fields);
  assert.equal(
    tlsFailure(error({ code: "ERR_SSL_WRONG_VERSION_NUMBER", reason: "wrong version number" })),
    "TLS_error:|268435703:SSL routines:OPENSSL_internal:WRONG_VERSION_NUMBER:TLS_error_end",
  );
  assert.equal(
    tlsFailure(error({ code: "ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE", reason: "ssl/tls alert bad certificate" })),
    "TLS_error:|268436498:SSL routines:OPENSSL_internal:SSLV3_ALERT_BAD_CERTIFICATE:TLS_error_end",
  );
  assert.equal(tlsFailure(error({ reason: "something new" })), "TLS_error:|SSL routines:OPENSSL_internal:SOMETHING_NEW:TLS_error_end");
  assert.equal(tlsFailure(error({ code: "ECONNRESET" })), "");
  assert.equal(tlsFailure(undefined), "");
});
