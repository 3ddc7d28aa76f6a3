import { expect, test } from "vitest";
import type { JobCheck, JobFields, Quote } from "../src/types";
import { parse, read, says } from "../src/views/jobs/new/form";
import { expectedCost } from "../src/views/jobs/new/quote";
import { obstacle, type Standing } from "../src/views/jobs/new/obstacle";

const fields: JobFields = { name: "mnist", dataset: "mnist", workers_min: 2, workers_max: 3, cores: 1, ram_mib: 1024, slots: ["00-06"], max_credits: "0.5", epochs: 5 };

test("what the file says comes back from the form", () => {
  expect(parse(read(fields))).toEqual({ fields, errors: {} });
  expect(parse(read({ ...fields, epochs: 0 })).fields!.epochs).toBe(0);
});

test("what makes no sense is said at its field and isn't written", () => {
  const errors = (patch: object) => {
    const { fields: written, errors } = parse({ ...read(fields), ...patch });
    expect(written).toBe(null);
    return Object.keys(errors);
  };
  expect(errors({ workers_min: "4" })).toEqual(["workers_max"]);
  expect(errors({ cores: "" })).toEqual(["cores"]);
  expect(errors({ ram_mib: "1e3" })).toEqual(["ram_mib"]);
  expect(errors({ cores: "-1", workers_min: "1.5" })).toEqual(["workers_min", "cores"]);
  expect(errors({ max_credits: "0.0000001" })).toEqual(["max_credits"]);
  expect(errors({ max_credits: "0." })).toEqual(["max_credits"]);
  expect(errors({ name: " " })).toEqual(["name"]);
});

test("a cap may be typed in more than one way", () => {
  expect(says({ ...read(fields), max_credits: "0.50" }, fields)).toBe(true);
  expect(says({ ...read(fields), max_credits: "0.51" }, fields)).toBe(false);
  expect(says({ ...read(fields), cores: "" }, fields)).toBe(false);
});

test("where the cap is less than the cost, the cost is that of the slot it starts in", () => {
  const slot = (slot: number, allowed: boolean, begins: number) => ({ slot, allowed, begins, expected_cost: String(slot) });
  const quote = { covered: false, expected_cost: "9", current_slot: 2, slots: [slot(0, true, 20), slot(1, true, 30), slot(2, true, 5)] } as Quote;
  expect(expectedCost(quote)).toBe("2");
  expect(expectedCost({ ...quote, slots: [slot(0, true, 20), slot(1, true, 10), slot(2, false, 5)] as Quote["slots"] })).toBe("1");
  expect(expectedCost({ ...quote, covered: true })).toBe("9");
});

const quote = { budget: "20000000" } as Quote;
const check: JobCheck = { problems: [], fields, quote, quote_error: null };
const fine: Standing = { check, formWrong: false, busy: false, online: true, available: "20000000", hidden: false };

test("a job is signed only when nothing is in the way", () => {
  expect(obstacle(fine)).toBe(null);
  expect(obstacle({ ...fine, available: "19999999" })).toContain("you can spend 19.999999");
  expect(obstacle({ ...fine, available: "19999999", hidden: true })).not.toMatch(/\d/);
  expect(obstacle({ ...fine, available: null })).toContain("balance");
  expect(obstacle({ ...fine, busy: true })).toContain("looked at");
  expect(obstacle({ ...fine, online: false })).toContain("connection");
  expect(obstacle({ ...fine, formWrong: true })).toContain("field");
  expect(obstacle({ ...fine, check: { ...check, problems: [{ line: 3, message: "x" }] } })).toContain("the problem");
  expect(obstacle({ ...fine, check: { ...check, quote: null } })).toContain("no quote");
});
