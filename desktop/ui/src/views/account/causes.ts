// What caused an entry or a line of the statement, in a few words.
import { short } from "../../lib/words";
import type { StatementLine } from "../../types";

const names: Record<string, string> = {
  starting_credits: "Starting credits", transfer_from: "Transfer received", transfer_to: "Transfer sent",
  escrow: "Put into escrow", refund: "Back from escrow", payout: "Paid for work",
  audit: "Paid for an audit", forfeit: "Part of what false work lost",
};

/** What a line of the statement is about; `job-3` and the like go beside it. */
export function lineName(line: StatementLine): string {
  switch (line.cause) {
    case "starting_credits": return "Starting credits";
    case "account": return `Transfers with ${short(line.name)}`;
    case "job": return `Job ${line.name}`;
    case "machine": return `Work of ${short(line.name)}`;
    case "audits": return "Audits of others' work";
    default: return line.name;
  }
}

export const causeName = (cause: string): string => names[cause] ?? cause.replaceAll("_", " ");
