// The way into the wallet. Each step has an address (`#/welcome/words`), so that Alt+Left goes back.
import type { Start, Session } from "../../types";

export const steps = ["market", "accounts", "unlock", "name", "password", "words", "check", "restore", "import", "open", "done"] as const;
export type Step = (typeof steps)[number];

/** The steps of a new account, for the line that shows how far one is. */
export const creation: Step[] = ["name", "password", "words", "check", "done"];

export const stepHref = (step: Step): string => `#/welcome/${step}`;
export const goStep = (step: Step): void => { location.hash = stepHref(step); };

interface Known { words: number; opened: boolean }

/** The step to show: the one of the address where it makes sense, else the first that is not done. */
export function stepOf(hash: string, start: Start, session: Session | null, known: Known): Step {
  if (known.opened) return "done";
  const asked = steps.find((step) => hash === stepHref(step));
  if (asked === "market") return "market";
  if (!start.market) return "market";
  if (session && !session.open) return "open";
  const first: Step = start.accounts.length > 0 ? "unlock" : "accounts";
  if (!asked || asked === "open" || asked === "done") return first;
  if (asked === "unlock") return first;
  if (asked === "check" && known.words === 0) return "words";
  return asked;
}
