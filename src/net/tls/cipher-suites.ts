/** IANA's numbers of the cipher suites that a connection can have, by OpenSSL's names. */
const numbers: Readonly<Record<string, number>> = {
  "AES128-SHA": 0x002f,
  "AES256-SHA": 0x0035,
  "AES128-SHA256": 0x003c,
  "AES256-SHA256": 0x003d,
  "AES128-GCM-SHA256": 0x009c,
  "AES256-GCM-SHA384": 0x009d,
  "DHE-RSA-AES128-GCM-SHA256": 0x009e,
  "DHE-RSA-AES256-GCM-SHA384": 0x009f,
  TLS_AES_128_GCM_SHA256: 0x1301,
  TLS_AES_256_GCM_SHA384: 0x1302,
  TLS_CHACHA20_POLY1305_SHA256: 0x1303,
  TLS_AES_128_CCM_SHA256: 0x1304,
  "ECDHE-ECDSA-AES128-SHA": 0xc009,
  "ECDHE-ECDSA-AES256-SHA": 0xc00a,
  "ECDHE-RSA-AES128-SHA": 0xc013,
  "ECDHE-RSA-AES256-SHA": 0xc014,
  "ECDHE-ECDSA-AES128-SHA256": 0xc023,
  "ECDHE-RSA-AES128-SHA256": 0xc027,
  "ECDHE-ECDSA-AES128-GCM-SHA256": 0xc02b,
  "ECDHE-ECDSA-AES256-GCM-SHA384": 0xc02c,
  "ECDHE-RSA-AES128-GCM-SHA256": 0xc02f,
  "ECDHE-RSA-AES256-GCM-SHA384": 0xc030,
  "ECDHE-RSA-CHACHA20-POLY1305": 0xcca8,
  "ECDHE-ECDSA-CHACHA20-POLY1305": 0xcca9,
};

/** 0xffff where it is not known, as Envoy. */
export function cipherSuiteId(name: string): number {
  return numbers[name] ?? 0xffff;
}
