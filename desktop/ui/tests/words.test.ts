import { describe, expect, it } from "vitest";
import { bytes, duration, exactTime, mib, percent, plural, sentence, short, stateName, toneOf } from "../src/lib/words";

describe("words", () => {
  it("say durations in the unit that fits", () => {
    expect([0, 59_400, 119_000, 120_000, 5_400_000, 7_260_000, 176_400_000, 200_000_000].map(duration)).toEqual([
      "0 s", "59 s", "119 s", "2 min", "90 min", "2 h 1 min", "2 d 1 h", "2 d 7 h",
    ]);
  });
  it("say sizes in powers of 1024", () => {
    expect([0, 1023, 1024, 1_572_864, 3 * 2 ** 30, 2 ** 50].map(bytes)).toEqual(["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "3.0 GiB", "1024.0 TiB"]);
    expect(mib(2048)).toBe("2.0 GiB");
  });
  it("count", () => {
    expect(plural(1, "job")).toBe("1 job");
    expect(plural(0, "job")).toBe("0 jobs");
    expect(plural(2, "entry", "entries")).toBe("2 entries");
    expect(percent(0.12345)).toBe("12.3 %");
  });
  it("give the exact time in UTC", () => {
    expect(exactTime(Date.UTC(2026, 10, 25, 13, 31, 7, 9))).toBe("2026-11-25 13:31:07 UTC");
  });
  it("shorten long ids only", () => {
    expect(short("job-1234")).toBe("job-1234");
    expect(short("dmm1q8352eufqy352eufqy352eufqy352eufq8c4xq0")).toBe("dmm1q8352eufq…");
  });
  it("begin sentences with a capital, but leave ids", () => {
    expect(sentence("the gateway doesn't answer")).toBe("The gateway doesn't answer");
    expect(sentence("job-3 ended")).toBe("job-3 ended");
    expect(sentence("")).toBe("");
  });
  it("give each state a tone, and one that is unknown none", () => {
    expect(["running", "in_use", "finished", "idle", "queued", "draining", "panic", "withdrawn", "new"].map(toneOf)).toEqual([
      "info", "info", "good", "good", "warning", "warning", "bad", "plain", "plain",
    ]);
    expect(stateName("in_use")).toBe("in use");
  });
});
