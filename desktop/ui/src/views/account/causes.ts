// What caused an entry, in two or three words.
const names: Record<string, string> = {
  starting_credits: "Starting credits", transfer_from: "Transfer received", transfer_to: "Transfer sent",
  escrow: "Put into escrow", refund: "Back from escrow", payout: "Paid for work",
};
export const causeName = (cause: string): string => names[cause] ?? cause.replaceAll("_", " ");
