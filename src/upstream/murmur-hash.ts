/** MurmurHash2 (64 bits, for 64-bit machines), as std::hash of libstdc++ has it: https://github.com/aappleby/smhasher (public domain). */
const multiplier = 0xc6a4a7935bd1e995n;
const mask = 0xffffffffffffffffn;

/** The seed of libstdc++. */
const standardSeed = 0xc70f6907n;

export function murmurHash2(data: Buffer, seed = standardSeed): bigint {
  const whole = data.length & ~7;
  let hash = seed ^ ((BigInt(data.length) * multiplier) & mask);
  for (let i = 0; i < whole; i += 8) {
    const word = mixed((data.readBigUInt64LE(i) * multiplier) & mask);
    hash = ((hash ^ ((word * multiplier) & mask)) * multiplier) & mask;
  }
  if (whole < data.length) {
    let rest = 0n;
    for (let i = data.length - 1; i >= whole; i--) rest = (rest << 8n) | BigInt(data[i]);
    hash = ((hash ^ rest) * multiplier) & mask;
  }
  hash = (mixed(hash) * multiplier) & mask;
  return mixed(hash);
}

function mixed(value: bigint): bigint {
  return value ^ (value >> 47n);
}
