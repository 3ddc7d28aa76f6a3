import { beforeEach, describe, expect, it } from "vitest";
import { go, href, route } from "../src/lib/route.svelte";

const at = (hash: string) => {
  location.hash = hash;
  dispatchEvent(new Event("hashchange"));
  return route.now;
};

describe("route", () => {
  beforeEach(() => at(""));
  it("is the dashboard without an address, and for an unknown one", () => {
    expect(at("").view).toBe("dashboard");
    expect(at("#/welcome/words").view).toBe("dashboard");
  });
  it("reads the view and what is open in it", () => {
    expect(at("#/jobs/job-3")).toEqual({ view: "jobs", parts: ["job-3"] });
    expect(at("#/account/transaction/blake3%3Aab")).toEqual({ view: "account", parts: ["transaction", "blake3:ab"] });
  });
  it("keeps any text through an address", () => {
    const text = "100 % of a/b?#ü";
    expect(at(href("account", "history", text)).parts).toEqual(["history", text]);
  });
  it("survives a broken address", () => {
    expect(at("#/jobs/%").parts).toEqual(["%"]);
  });
  it("goes", () => {
    go("resources", "dmm1x");
    expect(location.hash).toBe("#/resources/dmm1x");
  });
});
