// The account's history as far as it was fetched, newest first. Kept while one looks at something else.
import * as rust from "../../rust";
import { app } from "../../lib/live.svelte";
import type { Entry, Place } from "../../types";

/** Entries that are fetched at once. */
const PAGE = 500;

class Past {
  account = "";
  // Raw: ten thousand entries needn't be watched one by one.
  entries = $state.raw<Entry[]>([]);
  next = $state.raw<Place | null>(null);
  /** Was anything fetched? */
  begun = $state(false);
  loading = $state(false);
  error = $state.raw<unknown>(null);
  query = $state("");
  /** Where the list is scrolled to. */
  top = $state(0);
}
export const past = new Past();

/** Nothing of another account is shown. */
function own(): void {
  const account = app.session?.id ?? "";
  if (past.account === account) return;
  Object.assign(past, { account, entries: [], next: null, begun: false, error: null, query: "", top: 0 });
}

/** Puts what is new since the last look before what is known. */
export async function refresh(): Promise<void> {
  own();
  await fetched(async () => {
    const page = await rust.history(null, PAGE);
    return () => {
      const known = past.entries[0];
      const overlap = known ? page.entries.findIndex((entry) => same(entry, known)) : -1;
      if (overlap > 0) past.entries = [...page.entries.slice(0, overlap), ...past.entries];
      if (overlap >= 0) return;
      past.entries = page.entries;
      past.next = page.next;
      past.begun = true;
    };
  });
}

/** Fetches the next older page. */
export async function more(): Promise<void> {
  const from = past.next;
  if (!from) return;
  await fetched(async () => {
    const page = await rust.history(from, PAGE);
    return () => {
      past.entries = [...past.entries, ...page.entries];
      past.next = page.next;
    };
  });
}

/** One fetch at a time; what comes after the account was changed is dropped. */
async function fetched(fetch: () => Promise<() => void>): Promise<void> {
  if (past.loading) return;
  const account = past.account;
  past.loading = true;
  past.error = null;
  try {
    const take = await fetch();
    if (past.account === account) take();
  } catch (reason) {
    if (past.account === account) past.error = reason;
  } finally {
    past.loading = false;
  }
}

const same = (a: Entry, b: Entry): boolean => a.height === b.height && a.index === b.index;
export const keyOf = (entry: Entry): string => `${entry.height}/${entry.index}`;
