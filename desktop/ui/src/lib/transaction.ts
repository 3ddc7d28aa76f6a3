// What a transaction does, read from its JSON: for people, field by field.
import type { Transaction } from "../types";
import { duration, exactTime } from "./words";

export interface Fact { label: string; value: string; kind: "text" | "amount" | "id" }

const names: Record<string, string> = {
  open_account: "Account opened", transfer: "Transfer", register_machine: "Machine registered", lend: "Machine lent",
  withdraw: "Machine withdrawn", heartbeat: "Heartbeat", borrow: "Job submitted", cancel: "Job cancelled",
  receipt: "Receipt for work", price: "Prices of the day", invite: "Machine invited", join: "Machine joined",
};
/** Fields whose own names say too little. */
const labels: Record<string, string> = { cpu_ms: "CPU time", sequence: "receipt", from: "first round", loss_micro: "loss", code: "code's key" };
export const actionName = (action: string): string => names[action] ?? action.replaceAll("_", " ");

/** The action's own fields, wherever in the JSON it is; none where the JSON isn't understood. */
export function actionBody(transaction: Transaction): Record<string, unknown> {
  try {
    return find(JSON.parse(transaction.json), transaction.action) ?? {};
  } catch {
    return {};
  }
}

function find(value: unknown, action: string): Record<string, unknown> | null {
  if (typeof value !== "object" || value === null) return null;
  const object = value as Record<string, unknown>;
  const own = (object.action as Record<string, unknown> | undefined)?.[action];
  if (typeof own === "object" && own !== null && !Array.isArray(own)) return own as Record<string, unknown>;
  for (const part of Object.values(object)) {
    const found = find(part, action);
    if (found) return found;
  }
  return null;
}

/** Its fields that are single values. What is longer (a spec's bytes, an offer) is in the JSON below. */
export function facts(transaction: Transaction): Fact[] {
  return Object.entries(actionBody(transaction))
    .filter(([, value]) => ["string", "number", "boolean"].includes(typeof value))
    .map(([field, value]) => fact(field, value as string | number | boolean));
}

function fact(field: string, value: string | number | boolean): Fact {
  const label = labels[field] ?? field.replaceAll("_", " ");
  if (field === "amount") return { label, value: String(value), kind: "amount" };
  if (typeof value === "number" && field.endsWith("_ms")) return { label, value: duration(value), kind: "text" };
  if (typeof value === "number" && field.endsWith("_micro")) return { label, value: (value / 1e6).toFixed(6), kind: "text" };
  if (typeof value === "number" && field === "expires") return { label, value: exactTime(value), kind: "text" };
  const id = typeof value === "string" && (value.length > 24 || /^(job|lease)-\d+$/.test(value));
  return { label, value: String(value), kind: id ? "id" : "text" };
}
