// What is typed on the way into the wallet. It lives beside the steps, so that going back and forward loses nothing.
import * as rust from "../../rust";
import { app, entered } from "../../lib/live.svelte";
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
}

/** A key file was written: the wallet opens if the market knows its account, else an identity is asked for. */
export async function keyIsHere(session: Session): Promise<void> {
  app.start = await rust.start();
  enter(session);
}

/** A fresh account was opened: its last step tells so. */
export function accountOpened(session: Session): void {
  forget();
  draft.opened = session;
  goStep("done");
}
