// What is typed on the way into the wallet. It lives beside the steps, so that going back and forward loses nothing.
import * as rust from "../../rust";
import { app, entered, inWords, notice } from "../../lib/live.svelte";
import type { Session } from "../../types";
import { goStep } from "./steps";

const nothing = () => ({
  name: "", identity: "", password: "", again: "",
  /** The new key's words, and the places of those that are asked back. */
  words: [] as string[], places: [] as number[], answers: ["", "", ""],
  restoring: "", path: "", filePassword: "",
  /** An account that was just opened: its session begins when the last step is left. */
  opened: null as Session | null,
});

export const draft = $state(nothing());
/** The account on the lock's screen. */
export const lock = $state({ name: "", gateway: "" });

/** Passwords and words are forgotten as soon as they have done their work. */
export function forget(): void {
  Object.assign(draft, nothing());
}

/** The account is unlocked: into the wallet, or to the step where it is opened. */
export function enter(session: Session): void {
  forget();
  lock.name = session.name;
  if (location.hash.startsWith("#/welcome")) location.hash = "";
  entered(session);
  // A new account is among the known ones from now on.
  rust.start().then((start) => (app.start = start), () => {});
}

/**
 * Brings a key along: the wallet opens if the market knows its account, else an identity is asked for. Where the key file was
 * written but the market doesn't answer, the lock is where one goes on.
 */
export async function bring(key: () => Promise<Session>): Promise<void> {
  const name = draft.name;
  try {
    enter(await key());
  } catch (reason) {
    app.start = await rust.start();
    if (!app.start.accounts.some((account) => account.name === name)) throw reason;
    forget();
    lock.name = name;
    notice("warning", "The key is on this computer, but still locked", inWords(reason));
    goStep("unlock");
  }
}

/** A fresh account was opened: its last step tells so. */
export function accountOpened(session: Session): void {
  forget();
  draft.opened = session;
  goStep("done");
}
