// Why a job can't be signed now, in words that say what to do; null where it can.
import { exact } from "../../../lib/money";
import type { JobCheck } from "../../../types";

export interface Standing {
  check: JobCheck | null;
  /** The form holds something that makes no sense. */
  formWrong: boolean;
  busy: boolean;
  online: boolean;
  /** What can be spent; none while it isn't known. */
  available: string | null;
  /** Are amounts hidden? */
  hidden: boolean;
}

export function obstacle({ check, formWrong, busy, online, available, hidden }: Standing): string | null {
  if (formWrong) return "Mend the marked field first.";
  if (busy) return "The file is being looked at…";
  if (check && check.problems.length > 0) return check.problems.length === 1 ? "Mend the problem in the file first." : `Mend the ${check.problems.length} problems in the file first.`;
  if (!online) return "Without a connection nothing can be signed. PLUTO tries again by itself.";
  if (!check?.quote) return "There is no quote yet.";
  if (available === null) return "Your balance isn't known yet.";
  if (BigInt(check.quote.budget) > BigInt(available))
    return hidden
      ? "The cap goes into escrow, and it is more than you can spend. Lower it, or earn or receive credits."
      : `The cap of ${exact(check.quote.budget)} credits goes into escrow, and you can spend ${exact(available)}. Lower it, or earn or receive credits.`;
  return null;
}
