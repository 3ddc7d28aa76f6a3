// A transfer that is being typed: stays while one looks something up elsewhere.
import { isZero, minus, parse } from "../../lib/money";

export const draft = $state({ to: "", amount: "", sent: null as { id: string; to: string; amount: string } | null });

export function toProblem(to: string, own: string): string | null {
  if (to === "") return "Type or paste the account's id";
  if (!/^dm1[02-9ac-hj-np-z]{38}$/.test(to)) return "An account's id begins with dm1 and has 41 letters and digits";
  if (to === own) return "This is your own account";
  return null;
}

/** `earned` is null as long as it isn't known. */
export function amountProblem(typed: string, earned: string | null): string | null {
  if (typed.trim() === "") return "Type an amount, for example 1.5";
  const amount = parse(typed);
  if (amount === null) return "Write digits with at most six decimals, for example 12.5";
  if (isZero(amount)) return "Send more than nothing";
  if (earned !== null && minus(earned, amount).startsWith("-")) return "This is more than you earned: starting credits can't be sent";
  return null;
}
