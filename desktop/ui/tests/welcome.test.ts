import { describe, expect, it } from "vitest";
import { passwordProblem, strengthOf } from "../src/lib/strength";
import type { Market, Session, Start } from "../src/types";
import { nameProblem } from "../src/views/welcome/names";
import { readWords, sameWord, threePlaces, WORDS } from "../src/views/welcome/recovery";
import { stepHref, stepOf } from "../src/views/welcome/steps";

const market: Market = { gateway: "http://127.0.0.1:8600", name: "local", chain: "ab", validators: 4, height: 1, known: true, was: null };
const session: Session = { name: "sam", id: "dm1", key: "k", open: false };
const start = (changed: Partial<Start>): Start => ({
  market, local: null, accounts: [], session: null, version: "0",
  settings: { theme: "system", lock_minutes: 15, hide_amounts: false, notify: true }, ...changed,
});
const nothing = { words: 0, opened: false };
const accounts = [{ name: "sam", id: "dm1" }];

describe("the step that is shown", () => {
  it("is the market first, then an account, then the lock", () => {
    expect(stepOf("", start({ market: null }), null, nothing)).toBe("market");
    expect(stepOf("", start({}), null, nothing)).toBe("accounts");
    expect(stepOf("#/jobs/job-3", start({ accounts }), null, nothing)).toBe("unlock");
  });
  it("is the address's where that makes sense", () => {
    expect(stepOf(stepHref("restore"), start({ accounts }), null, nothing)).toBe("restore");
    expect(stepOf(stepHref("market"), start({ accounts }), null, nothing)).toBe("market");
    expect(stepOf(stepHref("words"), start({ market: null }), null, nothing)).toBe("market");
    expect(stepOf(stepHref("check"), start({}), null, nothing)).toBe("words");
    expect(stepOf(stepHref("check"), start({}), null, { words: 24, opened: false })).toBe("check");
    expect(stepOf(stepHref("unlock"), start({}), null, nothing)).toBe("accounts");
    expect(stepOf(stepHref("done"), start({}), null, nothing)).toBe("accounts");
  });
  it("is the opening for a key that the market doesn't know, and the end once it does", () => {
    expect(stepOf(stepHref("restore"), start({ accounts }), session, nothing)).toBe("open");
    expect(stepOf(stepHref("market"), start({ accounts }), session, nothing)).toBe("market");
    expect(stepOf("", start({ accounts }), session, { words: 0, opened: true })).toBe("done");
  });
});

describe("recovery words", () => {
  it("asks three different places back, in order", () => {
    for (let i = 0; i < 200; i++) {
      const [a, b, c] = threePlaces();
      expect(a! >= 0 && a! < b! && b! < c! && c! < WORDS).toBe(true);
    }
  });
  it("are read from a numbered list, with any spaces and capitals", () => {
    expect(readWords(" 1. Ocean\n2) ladder,  velvet\t")).toEqual(["ocean", "ladder", "velvet"]);
    expect(readWords("")).toEqual([]);
    expect(sameWord(" Ocean ", "ocean")).toBe(true);
    expect(sameWord("oceans", "ocean")).toBe(false);
  });
});

describe("names and passwords", () => {
  it("of accounts are those that a file can have", () => {
    expect(nameProblem("sam-2.b_c", [])).toBeNull();
    for (const bad of ["", "sam x", "../sam", "a".repeat(41), ".sam", "süd"]) expect(nameProblem(bad, []), bad).not.toBeNull();
    expect(nameProblem("sam", ["sam"])).toContain("already");
  });
  it("are long enough, and typed twice alike", () => {
    expect(passwordProblem("short", "short")).toContain("8");
    expect(passwordProblem("long enough", "long enougH")).toContain("differ");
    expect(passwordProblem("long enough", "long enough")).toBeNull();
  });
  it("are judged by length and variety, not by repetition", () => {
    expect(["abc", "aaaaaaaaaaaa", "12345678", "password", "correct horse battery staple", "xK9#mQ2$vL7!pR"].map((text) => strengthOf(text).level)).toEqual([0, 1, 1, 1, 3, 3]);
  });
});
