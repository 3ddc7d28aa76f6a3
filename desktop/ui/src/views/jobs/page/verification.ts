// How the receipts of a job divide by what audits found, and the words for it.
import type { Verification } from "../../../types";

export interface Share { name: string; count: number; color: string }

/** Parts of all receipts with work in them, without empty ones. A receipt has one audit at most of each kind. */
export function shares(found: Verification): Share[] {
  const rest = Math.max(0, found.windows - found.audited - found.undrawn);
  const parts: Share[] = [
    { name: "equal", count: found.passed, color: "--good" },
    { name: "false", count: found.wrong, color: "--bad" },
    { name: "not shown", count: found.silent, color: "--warning" },
    { name: "no outcome", count: found.void, color: "--muted" },
    { name: "open", count: found.going_on, color: "--info" },
    { name: "to be drawn", count: found.undrawn, color: "--chart-2" },
    { name: "not audited", count: rest, color: "--line" },
  ];
  return parts.filter((part) => part.count > 0);
}

const names: Record<string, string> = { passed: "equal", false: "false", silent: "not shown", void: "no outcome", open: "open" };
export const verdictName = (verdict: string): string => names[verdict] ?? verdict;

export function toneOfVerdict(verdict: string): "good" | "info" | "warning" | "bad" | "plain" {
  switch (verdict) {
    case "passed": return "good";
    case "open": return "info";
    case "silent": return "warning";
    case "false": return "bad";
    default: return "plain";
  }
}
