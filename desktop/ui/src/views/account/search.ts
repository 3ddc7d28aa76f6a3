// Searching the history: every word that was typed must be found in what an entry is, why it is, or its ids.
import { causeName } from "./causes";
import type { Entry } from "../../types";

/** A search as a test; `job-3` finds that job only, not `job-31`. */
export function finder(query: string): (entry: Entry) => boolean {
  const words = query.toLowerCase().split(/\s+/).filter((word) => word !== "");
  return (entry) => words.every((word) => (/^(job|lease|audit)-\d+$/.test(word) ? ids(entry).includes(word) : text(entry).includes(word)));
}

function ids(entry: Entry): string[] {
  return [entry.transaction, entry.job, entry.machine, entry.lease, entry.account, entry.audit].filter((id) => id !== null);
}

const texts = new WeakMap<Entry, string>();
function text(entry: Entry): string {
  let known = texts.get(entry);
  if (known === undefined) {
    known = [entry.why, entry.cause, causeName(entry.cause), entry.purse, `block ${entry.height}`, ...ids(entry)].join(" ").toLowerCase();
    texts.set(entry, known);
  }
  return known;
}
