import { describe, expect, it } from "vitest";
import { within } from "../src/lib/words";
import { shares, toneOfVerdict, verdictName } from "../src/views/jobs/page/verification";
import { lineName } from "../src/views/account/causes";
import type { Verification } from "../src/types";

const found = (changed: Partial<Verification>): Verification => ({
  audit_permille: 100, summary: "", open: false, windows: 0, audited: 0, undrawn: 0, passed: 0, wrong: 0, silent: 0, void: 0, going_on: 0,
  fees: "0", held: "0", vests: null, forfeited: "0", audits: [], ...changed,
});

describe("a job's verification", () => {
  it("divides all receipts by what was found, without empty parts", () => {
    const parts = shares(found({ windows: 72, audited: 9, undrawn: 3, passed: 8, going_on: 1 }));
    expect(parts.map((part) => [part.name, part.count])).toEqual([["equal", 8], ["open", 1], ["to be drawn", 3], ["not audited", 60]]);
    expect(parts.reduce((sum, part) => sum + part.count, 0)).toBe(72);
    expect(shares(found({}))).toEqual([]);
  });
  it("shows false work as such", () => {
    expect(shares(found({ windows: 2, audited: 2, passed: 1, wrong: 1 })).map((part) => part.name)).toEqual(["equal", "false"]);
    expect([toneOfVerdict("false"), toneOfVerdict("passed"), toneOfVerdict("void")]).toEqual(["bad", "good", "plain"]);
    expect(["passed", "silent", "new"].map(verdictName)).toEqual(["equal", "not shown", "new"]);
  });
  it("says when held pay vests, until it did", () => {
    expect(within(95_000, 0)).toBe("within 95 s");
    expect(within(10, 10)).toBe("");
    expect(within(null, 0)).toBe("");
  });
  it("has a line of its own in the statement", () => {
    expect(lineName({ cause: "audits", id: null, name: "Audits", incoming: "1", outgoing: "0", entries: 1 })).toBe("Audits of others' work");
  });
});
