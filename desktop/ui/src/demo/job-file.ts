// A job file, read and written as roughly as the demo needs: one `key = value` a line.
import { prices } from "./jobs";
import type { JobCheck, JobFields, Quote, SpecProblem } from "../types";

export const mnist = `# A small convolutional network learns MNIST on three lenders' machines.
name = "mnist-cnn"
kind = "train"

[workers]
min = 2
max = 3
cores = 1
ram_mib = 1024

[budget]
max_credits = 20
slots = []                          # now, whatever the slot

[data]
manifest = "mnist"                  # the name that the import gave, or blake3:…
train = "train"
validate = "test"

[model]
input = [1, 28, 28]
layers = [
  { conv2d = { out = 16, kernel = 3, padding = 1 } }, { relu = {} }, { max_pool2d = { kernel = 2 } },
  { conv2d = { out = 32, kernel = 3, padding = 1 } }, { relu = {} }, { max_pool2d = { kernel = 2 } },
  { flatten = {} }, { linear = { out = 10 } },
]

[training]
loss = "cross_entropy"
optimizer = { adam = { lr = 4e-3 } }
schedule = { cosine = { warmup_steps = 50 } }
batch = 192                         # of all workers together: 64 each
epochs = 5
seed = 7
mode = "sync"                       # average gradients at every step

[recovery]
checkpoint_rounds = 100
`;

const keys: Record<Exclude<keyof JobFields, "slots">, string> = {
  name: "name", dataset: "manifest", workers_min: "min", workers_max: "max", cores: "cores", ram_mib: "ram_mib", max_credits: "max_credits", epochs: "epochs",
};
const quoted = ["name", "dataset"];
const value = (toml: string, key: string) => new RegExp(`^${key} *= *("?)([^"#\\n]*?)\\1 *(#.*)?$`, "m").exec(toml)?.[2] ?? null;

function fieldsOf(toml: string): JobFields {
  const number = (key: string, otherwise: number) => Number(value(toml, key) ?? otherwise);
  return {
    name: value(toml, "name") ?? "", dataset: value(toml, "manifest") ?? "", workers_min: number("min", 1), workers_max: number("max", 1),
    cores: number("cores", 1), ram_mib: number("ram_mib", 512), max_credits: value(toml, "max_credits") ?? "0", epochs: number("epochs", 0),
    slots: [...(/^slots *= *\[(.*)\]/m.exec(toml)?.[1] ?? "").matchAll(/"([^"]+)"/g)].map((match) => match[1]!),
  };
}

export function edit(toml: string, fields: JobFields): string {
  for (const [field, key] of Object.entries(keys) as [keyof typeof keys, string][]) {
    const text = quoted.includes(field) ? `"${fields[field]}"` : String(fields[field]);
    toml = toml.replace(new RegExp(`^(${key} *= *)("[^"]*"|[^#\\n]*?)( *#.*)?$`, "m"), (_, start: string, _old, comment = "") => start + text + comment);
  }
  return toml.replace(/^(slots *= *)\[.*?\]/m, `$1[${fields.slots.map((slot) => `"${slot}"`).join(", ")}]`);
}

function problemsOf(toml: string): SpecProblem[] {
  const known = new Set([...Object.values(keys), "kind", "slots", "train", "validate", "input", "layers", "loss", "optimizer", "schedule", "batch", "seed", "mode", "checkpoint_rounds", "preset", "updates"]);
  const problems: SpecProblem[] = [];
  toml.split("\n").forEach((line, at) => {
    const key = /^([a-z_]+) *=/.exec(line)?.[1];
    if (key && !known.has(key)) problems.push({ line: at + 1, message: `\`${key}\` isn't known here; did you mean one of ${[...known].slice(0, 4).join(", ")}?` });
  });
  for (const section of ["workers", "budget", "data"]) if (!toml.includes(`[${section}]`)) problems.push({ line: null, message: `a section [${section}] is missing` });
  const fields = fieldsOf(toml);
  if (fields.cores > 64) problems.push({ line: toml.split("\n").findIndex((line) => line.startsWith("cores")) + 1, message: "no machine has that many cores: 1 to 64" });
  return problems;
}

function quoteOf(fields: JobFields): Quote {
  const slots = prices.slots.map((slot, at) => {
    const hour = (BigInt(slot.core_hour) * BigInt(fields.cores) + (BigInt(slot.ram_gib_hour) * BigInt(fields.ram_mib)) / 1024n) * BigInt(fields.workers_max);
    const allowed = fields.slots.length === 0 || fields.slots.includes(slot.name);
    const begins = prices.slot_ends + ((at - prices.current_slot + 4) % 4 - 1) * 6 * 3_600_000;
    return { slot: at, name: slot.name, begins, allowed, workers: at === 3 ? 1 : Math.min(fields.workers_max, 4), enough: at !== 3 || fields.workers_min < 2,
      cost_per_hour: String(hour), expected_cost: String((hour * BigInt(fields.epochs || 1)) / 45n) };
  });
  const first = [0, 1, 2, 3].map((i) => slots[(prices.current_slot + i) % 4]!).find((slot) => slot.allowed)!;
  const [whole = "0", part = ""] = fields.max_credits.split(".");
  const budget = BigInt(whole || "0") * 1_000_000n + BigInt(part.padEnd(6, "0").slice(0, 6) || "0");
  return {
    workers: Math.min(fields.workers_max, 4), machines: 4, enough: fields.workers_min <= 4, expected_start: fields.workers_min <= 4 ? Math.max(Date.now(), first.begins) : null,
    expected_ms: (fields.epochs || 1) * 84_000, expected_cost: budget < BigInt(first.expected_cost) ? String(budget) : first.expected_cost, budget: String(budget), covered: budget >= BigInt(first.expected_cost),
    current_slot: prices.current_slot, parameters: 20_490, ram_mib: 312, audit_permille: 100, fee_permille: 60, slots,
  };
}

export function check(toml: string): JobCheck {
  const broken = toml.split("\n").findIndex((line) => /^\s*[a-z_]+ *= *$/.test(line) || /^[a-z_]+\s*$/.test(line));
  if (broken >= 0) return { problems: [{ line: broken + 1, message: "this isn't TOML: a key needs a value, for example cores = 2" }], fields: null, quote: null, quote_error: null };
  const problems = problemsOf(toml), fields = fieldsOf(toml);
  return { problems, fields, quote: problems.length > 0 ? null : quoteOf(fields), quote_error: null };
}
