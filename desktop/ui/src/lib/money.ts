// Amounts are decimal texts of microcredits. They are never turned into floating point where they are shown or signed.
const MICRO = 1_000_000n;

/** `"1500000"` → `1.5`: exact, without trailing zeros, thousands apart. */
export function exact(amount: string): string {
  const micro = BigInt(amount);
  const sign = micro < 0n ? "−" : "";
  const size = micro < 0n ? -micro : micro;
  const fraction = (size % MICRO).toString().padStart(6, "0").replace(/0+$/, "");
  return sign + grouped(size / MICRO) + (fraction ? "." + fraction : "");
}

/** For columns: always as many decimals, rounded half away from zero; what is less than the last of them is shown exactly. */
export function rounded(amount: string, decimals = 2): string {
  const micro = BigInt(amount);
  const size = micro < 0n ? -micro : micro;
  const unit = 10n ** BigInt(6 - decimals);
  const steps = (size + unit / 2n) / unit;
  if (steps === 0n && size > 0n) return exact(amount);
  const scale = 10n ** BigInt(decimals);
  const fraction = decimals === 0 ? "" : "." + (steps % scale).toString().padStart(decimals, "0");
  return (micro < 0n ? "−" : "") + grouped(steps / scale) + fraction;
}

/** For charts only. */
export const toNumber = (amount: string): number => Number(BigInt(amount)) / 1e6;

export const sum = (...amounts: string[]): string => amounts.reduce((total, amount) => total + BigInt(amount), 0n).toString();
export const minus = (amount: string, less: string): string => (BigInt(amount) - BigInt(less)).toString();
export const isZero = (amount: string): boolean => BigInt(amount) === 0n;

/** Reads what a person typed (`1.5`), as Rust does; null where it is no amount. */
export function parse(text: string): string | null {
  const match = /^(\d{1,12})(?:\.(\d{1,6}))?$/.exec(text.trim());
  if (!match) return null;
  return (BigInt(match[1]!) * MICRO + BigInt((match[2] ?? "").padEnd(6, "0"))).toString();
}

function grouped(number: bigint): string {
  return number.toString().replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
}
