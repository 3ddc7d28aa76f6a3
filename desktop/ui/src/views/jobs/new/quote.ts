// A quote in words.
import { duration, plural } from "../../../lib/words";
import type { Quote } from "../../../types";

export function starts(quote: Quote, now: number): string {
  if (quote.expected_start === null) return "when enough machines are free";
  return quote.expected_start <= now ? "now" : `in ${duration(quote.expected_start - now)}`;
}

export function workers(quote: Quote): string {
  const offered = `${plural(quote.machines, "machine")} on offer`;
  return quote.enough ? `${quote.workers} of ${offered}` : `not enough: ${offered}`;
}

/** A quote's cost ends at the cap. Where the cap is less, this is what the job would cost in the slot that it starts in. */
export function expectedCost(quote: Quote): string {
  if (quote.covered) return quote.expected_cost;
  const allowed = quote.slots.filter((slot) => slot.allowed).sort((a, b) => a.begins - b.begins);
  const slot = allowed.find((one) => one.slot === quote.current_slot) ?? allowed[0];
  return slot?.expected_cost ?? quote.expected_cost;
}

/** Does the cap do, and what follows? */
export function coverage(quote: Quote): string {
  if (!quote.covered) return "The cap doesn't cover the expected cost: the job would stop when it is spent, with its last checkpoint kept. Raise the cap.";
  return quote.enough
    ? "The cap covers the expected cost. What isn't used comes back."
    : "The cap covers the expected cost. The job waits until enough machines are free.";
}
