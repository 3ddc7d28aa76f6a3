import { failure, never, send, type Answers } from ".";
import { check, edit, mnist } from "./job-file";
import { unwatch, watch } from "./job-run";
import type { Audit, Dataset, ImportProgress, JobCheck, Preset, ReceiptView, SavedResult, Verification } from "../types";

const soon = (ms = 250) => new Promise<void>((done) => setTimeout(done, ms));
/** Nothing comes while loading; nothing works without a gateway. */
async function remote(state: string): Promise<void> {
  if (state === "loading") return never();
  await soon();
  if (state === "error" || state === "offline") throw failure;
}

const named = (name: string, dataset: string, change: (toml: string) => string = (toml) => toml) => change(mnist.replace('"mnist-cnn"', `"${name}"`).replace('"mnist"  ', `"${dataset}"  `));
const presets: Preset[] = [
  { id: "mnist", title: "Digits", about: "A small convolutional network learns MNIST's handwritten digits. Three workers, five epochs.", toml: mnist, dataset: "mnist" },
  { id: "mnist-local", title: "Digits, slow links", about: "The same; workers average their parameters after 64 steps of their own.", toml: named("mnist-cnn-local", "mnist", (toml) => toml.replace('"sync"', "{ local = { steps = 64 } }")), dataset: "mnist" },
  { id: "text", title: "Letters of a text", about: "A small transformer learns a text, byte by byte. Bring your own.", toml: named("char-transformer", "text", (toml) => toml.replace("epochs = 5", "epochs = 3")), dataset: "text" },
  { id: "mlp", title: "Handwritten digits, quickly", about: "A multilayer perceptron learns MNIST in seconds. Good for a first try.", toml: named("mlp", "mnist"), dataset: "mnist" },
  { id: "lenet5", title: "LeNet-5", about: "The network of 1998, on MNIST.", toml: named("lenet5", "mnist"), dataset: "mnist" },
  { id: "lstm", title: "Sequences", about: "An LSTM reads MNIST's images row by row.", toml: named("lstm", "mnist"), dataset: "mnist" },
  { id: "regression", title: "Numbers from a table", about: "A line through the columns of a CSV file.", toml: named("regression", "houses"), dataset: "houses" },
];
const datasets: Dataset[] = [
  { name: "mnist", manifest: "blake3:" + "5e1f".repeat(16), splits: [{ name: "train", samples: 60_000 }, { name: "test", samples: 10_000 }], bytes: 54_900_000 },
  { name: "text", manifest: "blake3:" + "aa07".repeat(16), splits: [{ name: "train", samples: 3_600 }, { name: "test", samples: 400 }], bytes: 512_000 },
];

function receiptsOf(job: string, count: number): ReceiptView[] {
  return Array.from({ length: count }, (_, i): ReceiptView => ({
    job, lease: `${job}-lease-${i % 3}`, number: Math.floor(i / 3) + 1, machine: `dmm1q${i % 3}352eufqy352eufqy352euf`, height: 1500 + i, time: Date.now() - (count - i) * 3300,
    transaction: i.toString(16).padStart(64, "b7"), rounds: 35, samples: 2240, paid_ms: 10_000, payout: String(4427 + i % 3),
  }));
}

/** In `long` work of one worker was false. */
function verificationOf(job: string, state: string): Verification {
  const none: Verification = { audit_permille: 100, summary: "Nothing was committed to yet", open: false, windows: 0, audited: 0, undrawn: 0, passed: 0, wrong: 0, silent: 0, void: 0, going_on: 0, fees: "0", held: "0", vests: null, forfeited: "0", audits: [] };
  if (job === "job-418" || state === "empty") return none;
  const count = state === "long" ? 60 : 9;
  const audits = Array.from({ length: count }, (_, i): Audit => {
    const verdict = i === 0 ? "open" : state === "long" && i === 4 ? "false" : state === "long" && i === 9 ? "void" : "passed";
    const status = { open: "Is being computed again", passed: "Passed", false: "False: the work was not done as claimed", void: "Void: nobody could say" }[verdict]!;
    const found = { open: "computes", passed: "equal", false: "different", void: "unable" }[verdict]!;
    const auditors = [{ machine: ["lab-7", "office", "render-box"][i % 3]!, found }];
    if (verdict === "false") auditors.push({ machine: "rack-12", found }, { machine: "rack-31", found });
    return { id: `audit-${140 - i}`, lease: `lease-${i % 3}`, rank: i % 3, receipt: 24 - Math.floor(i / 3), round: verdict === "open" && i > 0 ? null : 800 - 31 * i, verdict, status, drawn: Date.now() - i * 31_000, auditors };
  });
  const with_ = (verdict: string) => audits.filter((audit) => audit.verdict === verdict).length;
  const windows = state === "long" ? 400 : 72, undrawn = state === "long" ? 0 : 3;
  const [passed, wrong, lost] = [with_("passed"), with_("false"), with_("void")];
  return {
    ...none, open: true, windows, audited: count, undrawn, passed, wrong, void: lost, going_on: 1, fees: "12754", held: "41250", vests: Date.now() + 95_000, forfeited: wrong > 0 ? "13281" : "0", audits,
    summary: `${count} of ${windows} windows were drawn to be computed again by other machines: ${passed} equal, ${wrong > 0 ? `${wrong} FALSE, ` : ""}${lost > 0 ? `${lost} without an outcome, ` : ""}1 still open`,
  };
}

export const jobCommands: Answers = {
  presets: (_, state) => (state === "loading" ? never() : soon(60).then(() => presets)),
  datasets: (_, state) => (state === "loading" ? never() : soon(60).then(() => (state === "empty" ? [] : datasets))),
  import_dataset: async ({ name, channel }, state): Promise<Dataset> => {
    const total = 54_900_000;
    for (const step of ["cutting shards", "storing shards"])
      for (let part = 0; part <= 20; part++) {
        await soon(70);
        send<ImportProgress>(channel, { step, done_bytes: (total * part) / 20, total_bytes: total });
      }
    if (state === "error") throw { ...failure, message: "the folder holds neither MNIST's files nor images by class, CSV or text", hint: "choose the folder that directly holds them" };
    const added = { ...datasets[0]!, name };
    datasets.push(added);
    return added;
  },
  check_job: async ({ toml }, state): Promise<JobCheck> => {
    if (state === "loading") return never();
    await soon();
    const checked = check(toml);
    return state === "offline" || state === "error" ? { ...checked, quote: null, quote_error: failure } : checked;
  },
  edit_job: ({ toml, fields }) => edit(toml, fields),
  submit_job: async (_, state) => { await soon(600); await remote(state); return "job-419"; },
  cancel_job: (_, state) => remote(state).then(() => null),
  watch_job: ({ job, channel }, state) => {
    if (state === "loading") return never();
    if (state === "error") throw { ...failure, message: `${job} could not be read: the gateway doesn't answer` };
    watch(job, channel, state);
    return null;
  },
  unwatch_job: ({ watch }) => { unwatch(watch); return null; },
  receipts: async ({ job }, state) => { await remote(state); return job === "job-418" || state === "empty" ? [] : receiptsOf(job, state === "long" ? 4000 : 72); },
  verification: async ({ job }, state): Promise<Verification> => { await remote(state); return verificationOf(job, state); },
  save_result: async ({ folder }, state): Promise<SavedResult> => { await remote(state); await soon(600); return { folder: `${folder}/mnist-cnn`, files: ["model.safetensors", "job.toml", "metrics.csv"], accuracy: null, loss: null }; },
  evaluate_result: async (_, state): Promise<SavedResult> => { await remote(state); await soon(1200); return { folder: "", files: [], accuracy: 0.9887, loss: 0.0361 }; },
  "plugin:dialog|open": () => "/home/sam/data/letters",
};
