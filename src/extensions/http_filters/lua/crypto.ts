/** importPublicKey() and verifySignature(). */
import { createPublicKey, createVerify, type KeyObject } from "node:crypto";
import { type LuaCall, LuaError, LuaObject } from "../../lua/vm.ts";
import { luaClass } from "../../lua/wrappers/define.ts";

export class LuaPublicKey extends LuaObject {
  /** The key as it was given, by which verifySignature finds it; "" for one that is none. */
  readonly name: string;
  constructor(name: string) {
    super(publicKeyClass);
    this.name = name;
  }
}
const publicKeyClass = luaClass<LuaPublicKey>("N5Envoy10Extensions11HttpFilters3Lua16PublicKeyWrapperE", {
  get: (self, call) => (self.name === "" ? call.pushNil() : call.pushString(self.name)),
});

const hashes = new Set(["sha1", "sha224", "sha256", "sha384", "sha512"]);

/** The public keys that the scripts of one stream have imported. */
export class PublicKeys {
  readonly #keys = new Map<string, KeyObject>();

  /** Arguments: DER and its length. */
  import(call: LuaCall): number {
    const text = call.string(2);
    const der = text.slice(0, Math.max(0, call.integer(3)));
    try {
      const key = createPublicKey({ key: Buffer.from(der, "latin1"), format: "der", type: "spki" });
      this.#keys.set(der, key);
      return call.pushObject(new LuaPublicKey(der));
    } catch {
      return call.pushObject(new LuaPublicKey(""));
    }
  }

  /** Arguments: hash function, key, signature and its length, text and its length. Pushes whether it is right, and why not. */
  verify(call: LuaCall): number {
    const hash = call.string(2);
    const key = this.#keys.get(call.string(3));
    if (key === undefined) throw new LuaError("invalid public key");
    const signature = call.string(4).slice(0, Math.max(0, call.integer(5)));
    const text = call.string(6).slice(0, Math.max(0, call.integer(7)));
    const answer = (error: string | undefined): number =>
      call.pushBoolean(error === undefined) + (error === undefined ? call.pushNil() : call.pushString(error));
    if (!hashes.has(hash.toLowerCase())) return answer(`${hash} is not supported.`);
    try {
      const right = createVerify(hash.toLowerCase()).update(text, "latin1").verify(key, Buffer.from(signature, "latin1"));
      return answer(right ? undefined : "Failed to verify digest. Error code: 0");
    } catch {
      return answer("Failed to initialize digest verify.");
    }
  }
}
