// The job that is being written. It outlives the view, a lost connection and a reload of the page; the file is the truth.
import { asError } from "../../../lib/live.svelte";
import * as rust from "../../../rust";
import type { CommandError, JobCheck } from "../../../types";
import { parse, read, says, type FormText } from "./form";

const KEPT_AS = "pluto-draft", LOOK_AFTER_MS = 300;

/** Where the file came from: a preset's id, `own`, or `again` (another job's spec); none before anything was chosen. */
interface Kept { toml: string; from: string | null }

function kept(): Kept {
  try {
    const kept = JSON.parse(sessionStorage.getItem(KEPT_AS) ?? "") as Kept;
    if (typeof kept.toml === "string") return { toml: kept.toml, from: kept.from };
  } catch {
    // Nothing is kept yet.
  }
  return { toml: "", from: null };
}

export const draft = $state({
  ...kept(),
  form: null as FormText | null,
  /** The latest answer, and the file that it is about: it may have changed since. */
  check: null as JobCheck | null,
  checked: null as string | null,
  /** The file is being written from the form, or looked at. */
  busy: false,
  /** Why the file could not be looked at. */
  failed: null as CommandError | null,
  /** What the last choice replaced, where it had been typed in. */
  replaced: null as Kept | null,
});

/** Was anything typed since the file was chosen? */
let edited = false;
/** Changed in the form and not yet in the file. */
let touched: Partial<FormText> = {};
/** The file changed, and the form doesn't know yet. */
let formIsOld = true;
let asked = 0;
let timer: ReturnType<typeof setTimeout> | undefined;

/** Typed into the editor. */
export function type(toml: string): void {
  [touched, formIsOld, edited] = [{}, true, true];
  put(toml);
  look();
}

/** Changed in the form: written into the file once it makes sense. */
export function fill(patch: Partial<FormText>): void {
  if (!draft.form) return;
  Object.assign(draft.form, patch);
  Object.assign(touched, patch);
  edited = true;
  look();
}

/** Takes another file in place of this one. */
export function choose(toml: string, from: string): void {
  draft.replaced = edited ? { toml: draft.toml, from: draft.from } : null;
  [touched, formIsOld, edited] = [{}, true, false];
  draft.from = from;
  put(toml);
  look(0);
}

export function takeBack(): void {
  const { replaced } = draft;
  if (!replaced) return;
  edited = false;
  choose(replaced.toml, replaced.from ?? "own");
  edited = true;
}

/** Forgets it: it was submitted. */
export function forget(): void {
  next();
  [touched, formIsOld, edited] = [{}, true, false];
  Object.assign(draft, { toml: "", from: null, form: null, check: null, checked: null, busy: false, failed: null, replaced: null });
  sessionStorage.removeItem(KEPT_AS);
}

/** Looks at the file a little later, when nothing more is typed. */
export function look(after = LOOK_AFTER_MS): void {
  if (draft.from === null) return;
  const mine = next();
  timer = setTimeout(() => void step(mine), after);
}

async function step(mine: number): Promise<void> {
  try {
    if (!formIsOld) await write(mine);
    if (mine === asked) await ask(mine);
    // What was typed into the form while it was old.
    if (mine === asked && Object.keys(touched).length > 0 && (await write(mine))) await ask(mine);
  } catch (error) {
    if (mine === asked) draft.failed = asError(error);
  }
  if (mine === asked) draft.busy = false;
}

/** Writes what was changed in the form, where there is something and it makes sense. */
async function write(mine: number): Promise<boolean> {
  const fields = draft.form && Object.keys(touched).length > 0 ? parse(draft.form).fields : null;
  if (!fields) return false;
  const toml = await rust.editJob(draft.toml, fields);
  if (mine !== asked) return false;
  touched = {};
  put(toml);
  return true;
}

async function ask(mine: number): Promise<void> {
  const toml = draft.toml;
  const check = await rust.checkJob(toml);
  if (mine !== asked) return;
  [draft.check, draft.checked] = [check, toml];
  if (!check.fields) return;
  if (formIsOld || !(draft.form && says(draft.form, check.fields))) draft.form = { ...read(check.fields), ...touched };
  formIsOld = false;
}

/** Answers to what was asked before are stale from here on. */
function next(): number {
  clearTimeout(timer);
  [draft.busy, draft.failed] = [true, null];
  return ++asked;
}

function put(toml: string): void {
  draft.toml = toml;
  try {
    sessionStorage.setItem(KEPT_AS, JSON.stringify({ toml, from: draft.from }));
  } catch {
    // Without room it lives as long as the page.
  }
}
