import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { JobCheck, JobFields } from "../src/types";

const fields: JobFields = { name: "a", dataset: "mnist", workers_min: 1, workers_max: 2, cores: 1, ram_mib: 512, slots: [], max_credits: "5", epochs: 1 };
// A file here is its fields as JSON, and what isn't JSON isn't TOML.
const text = (patch: Partial<JobFields> = {}) => JSON.stringify({ ...fields, ...patch });
const answer = (toml: string): JobCheck => {
  try {
    return { problems: [], fields: JSON.parse(toml) as JobFields, quote: null, quote_error: null };
  } catch {
    return { problems: [{ line: 1, message: "no TOML" }], fields: null, quote: null, quote_error: null };
  }
};
const checkJob = vi.fn((toml: string) => Promise.resolve(answer(toml)));
const editJob = vi.fn((_: string, fields: JobFields) => Promise.resolve(JSON.stringify(fields)));
vi.mock("../src/rust", () => ({ checkJob: (toml: string) => checkJob(toml), editJob: (toml: string, fields: JobFields) => editJob(toml, fields) }));

const { choose, draft, fill, forget, look, takeBack, type } = await import("../src/views/jobs/new/draft.svelte");
const later = () => vi.advanceTimersByTimeAsync(1000);

beforeEach(async () => {
  vi.useFakeTimers();
  forget();
  choose(text(), "preset");
  await later();
  checkJob.mockClear();
  editJob.mockClear();
});
afterEach(() => { vi.useRealTimers(); });

test("what is typed into the editor is looked at once, after a pause, and read into the form", async () => {
  type(text({ name: "b" }).slice(0, -1));
  type(text({ name: "b" }));
  await later();
  expect(checkJob).toHaveBeenCalledTimes(1);
  expect(draft.form!.name).toBe("b");
  expect(draft.busy).toBe(false);
});

test("what is filled into the form is written into the file, and stays as it was typed", async () => {
  fill({ max_credits: "0.50" });
  await later();
  expect(JSON.parse(draft.toml)).toEqual({ ...fields, max_credits: "0.50" });
  expect(draft.form!.max_credits).toBe("0.50");
  expect(draft.checked).toBe(draft.toml);
});

test("what makes no sense stays in the form and out of the file, also when the quote is renewed", async () => {
  fill({ cores: "" });
  await later();
  look(0);
  await later();
  expect(editJob).not.toHaveBeenCalled();
  expect(draft.form!.cores).toBe("");
  fill({ cores: "4" });
  await later();
  expect((JSON.parse(draft.toml) as JobFields).cores).toBe(4);
});

test("both at nearly the same time: nothing is lost", async () => {
  type(text({ epochs: 9 }));
  fill({ cores: "4" });
  await later();
  expect(JSON.parse(draft.toml)).toEqual({ ...fields, epochs: 9, cores: 4 });
  expect(draft.form!.epochs).toBe("9");
});

test("an answer that was overtaken is ignored", async () => {
  let tellOld = (_: JobCheck) => {};
  checkJob.mockImplementationOnce(() => new Promise((resolve) => (tellOld = resolve)));
  type(text({ name: "old" }));
  await later();
  type(text({ name: "new" }));
  await later();
  tellOld(answer(text({ name: "old" })));
  await later();
  expect(draft.form!.name).toBe("new");
  expect(draft.checked).toBe(draft.toml);
});

test("a file that isn't TOML keeps the form as it was", async () => {
  type("{");
  await later();
  expect(draft.check!.fields).toBe(null);
  expect(draft.form!.name).toBe("a");
});

test("without an answer what was typed is kept, and it is looked at again on demand", async () => {
  checkJob.mockImplementationOnce(() => Promise.reject({ code: 5001, message: "no gateway", hint: "", retryable: true }));
  type(text({ name: "b" }));
  await later();
  expect(draft.failed!.message).toBe("no gateway");
  expect(draft.checked).not.toBe(draft.toml);
  expect(JSON.parse(sessionStorage.getItem("pluto-draft")!)).toEqual({ toml: text({ name: "b" }), from: "preset" });
  look(0);
  await later();
  expect([draft.failed, draft.form!.name]).toEqual([null, "b"]);
});

test("a choice that replaces what was typed can be taken back", async () => {
  choose(text({ name: "other" }), "other");
  expect(draft.replaced).toBe(null);
  type(text({ name: "mine" }));
  choose(text({ name: "third" }), "third");
  takeBack();
  await later();
  expect([draft.form!.name, draft.from]).toEqual(["mine", "other"]);
});

test("after submitting nothing is left", () => {
  forget();
  expect([draft.toml, draft.from, draft.form, sessionStorage.getItem("pluto-draft")]).toEqual(["", null, null, null]);
});
