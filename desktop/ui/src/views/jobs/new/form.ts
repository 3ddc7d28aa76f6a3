// The form's texts and the job file's fields: what was typed is kept as typed, and only what makes sense goes into the file.
import { parse as credits } from "../../../lib/money";
import type { JobFields } from "../../../types";

/** Every field as typed; slots by name. */
export type FormText = Record<Exclude<keyof JobFields, "slots">, string> & { slots: string[] };
export type FormErrors = Partial<Record<keyof JobFields, string>>;

export const read = (fields: JobFields): FormText => ({
  name: fields.name,
  dataset: fields.dataset,
  workers_min: String(fields.workers_min),
  workers_max: String(fields.workers_max),
  cores: String(fields.cores),
  ram_mib: String(fields.ram_mib),
  max_credits: fields.max_credits,
  epochs: String(fields.epochs),
  slots: [...fields.slots],
});

/** `fields` only where nothing is wrong. */
export function parse(text: FormText): { fields: JobFields | null; errors: FormErrors } {
  const errors: FormErrors = {};
  const whole = (field: Exclude<keyof JobFields, "slots">, least: number): number => {
    const typed = text[field].trim();
    const value = /^\d{1,9}$/.test(typed) ? Number(typed) : NaN;
    if (!(value >= least)) errors[field] = `A whole number from ${least}`;
    return value;
  };
  const workers_min = whole("workers_min", 1), workers_max = whole("workers_max", 1);
  if (workers_max < workers_min) errors.workers_max = "At least as many as the fewest";
  const fields: JobFields = {
    name: text.name.trim(), dataset: text.dataset, workers_min, workers_max, cores: whole("cores", 1), ram_mib: whole("ram_mib", 1),
    slots: text.slots, max_credits: text.max_credits.trim().replace(/\.$/, ""), epochs: whole("epochs", text.epochs.trim() === "0" ? 0 : 1),
  };
  const cap = credits(fields.max_credits);
  if (cap === null) errors.max_credits = "Credits with at most 6 decimals, for example 20 or 0.5";
  else if (BigInt(cap) === 0n) errors.max_credits = "A cap of 0 pays nobody";
  if (!fields.name) errors.name = "A job needs a name";
  return { fields: Object.keys(errors).length === 0 ? fields : null, errors };
}

/** Does the form say what the file says? `0.50` and `0.5` are the same. */
export function says(text: FormText, fields: JobFields): boolean {
  const mine = parse(text).fields;
  if (!mine) return false;
  const plain = (of: JobFields) => JSON.stringify(Object.entries({ ...of, max_credits: credits(of.max_credits) }).sort());
  return plain(mine) === plain(fields);
}
