// How hard a password is to guess, roughly: a hint while it is typed, not a promise.
export const SHORTEST = 8;
export interface Strength { level: 0 | 1 | 2 | 3; words: string }

/** Characters are counted as Rust does: each letter of any alphabet is one. */
export const isShort = (password: string): boolean => [...password].length < SHORTEST;

export function strengthOf(password: string): Strength {
  if (isShort(password)) return { level: 0, words: `Too short: at least ${SHORTEST} characters` };
  const bits = Math.log2(alphabet(password)) * effectiveLength(password);
  if (bits < 45) return { level: 1, words: "Weak: make it longer, for example four words that don't belong together" };
  if (bits < 70) return { level: 2, words: "Good" };
  return { level: 3, words: "Strong" };
}

function alphabet(password: string): number {
  const kinds: [RegExp, number][] = [[/[a-z]/, 26], [/[A-Z]/, 26], [/\d/, 10], [/[^a-zA-Z\d]/, 33]];
  return kinds.reduce((size, [kind, more]) => size + (kind.test(password) ? more : 0), 0);
}

/** Repeated and counted-up characters (`aaa`, `1234`) hardly count. */
function effectiveLength(password: string): number {
  let length = 1;
  for (let i = 1; i < password.length; i++) {
    const step = password.charCodeAt(i) - password.charCodeAt(i - 1);
    length += Math.abs(step) <= 1 ? 0.3 : 1;
  }
  return length;
}

/** Why a new password, typed twice, can't be used; null where it can. */
export function passwordProblem(password: string, again: string): string | null {
  if (isShort(password)) return strengthOf(password).words;
  return password === again ? null : "The two passwords differ";
}
