// The 24 recovery words: which are asked back, and reading words that were typed or pasted.
export const WORDS = 24;

/** Three different places, in order. */
export function threePlaces(count = WORDS): number[] {
  const places = new Set<number>();
  while (places.size < 3) places.add(crypto.getRandomValues(new Uint32Array(1))[0]! % count);
  return [...places].sort((a, b) => a - b);
}

/** Lower-case words; the numbers of a copied list are left out. */
export const readWords = (text: string): string[] => text.toLowerCase().split(/[^a-z]+/).filter((word) => word !== "");

export const sameWord = (typed: string, word: string): boolean => typed.trim().toLowerCase() === word;
