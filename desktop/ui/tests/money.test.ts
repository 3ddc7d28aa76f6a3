import { describe, expect, it } from "vitest";
import { exact, isZero, minus, parse, rounded, sum, toNumber } from "../src/lib/money";

describe("exact", () => {
  it("shows every microcredit and no zeros behind", () => {
    expect(exact("1500000")).toBe("1.5");
    expect(exact("0")).toBe("0");
    expect(exact("1")).toBe("0.000001");
    expect(exact("50000000")).toBe("50");
    expect(exact("-1")).toBe("−0.000001");
  });
  it("sets thousands apart, also beyond what floating point holds", () => {
    expect(exact("18446744073709551615")).toBe("18\u202f446\u202f744\u202f073\u202f709.551615");
  });
});

describe("rounded", () => {
  it("has always as many decimals, and rounds half away from zero", () => {
    expect(rounded("1234567")).toBe("1.23");
    expect(rounded("1235000")).toBe("1.24");
    expect(rounded("-1235000")).toBe("−1.24");
    expect(rounded("999999999")).toBe("1\u202f000.00");
    expect(rounded("1500000", 6)).toBe("1.500000");
    expect(rounded("1500000", 0)).toBe("2");
  });
  it("never shows something as nothing", () => {
    expect(rounded("1")).toBe("0.000001");
    expect(rounded("-4950")).toBe("−0.00495");
    expect(rounded("5000")).toBe("0.01");
    expect(rounded("0")).toBe("0.00");
  });
});

describe("parse", () => {
  it("reads what Rust reads", () => {
    expect(parse("1.5")).toBe("1500000");
    expect(parse(" 20 ")).toBe("20000000");
    expect(parse("0.000001")).toBe("1");
    expect(parse("007")).toBe("7000000");
  });
  it("refuses everything else", () => {
    for (const text of ["", ".", "1.", ".5", "-1", "+1", "1,5", "1.0000001", "1e3", "1 000", "١", "0x10", "1.5 credits"]) {
      expect(parse(text), text).toBeNull();
    }
  });
  it("and exact are each other's reverse", () => {
    for (const amount of ["0", "1", "10", "999999", "1000000", "123456789"]) expect(parse(exact(amount))).toBe(amount);
  });
});

describe("sums", () => {
  it("are exact", () => {
    expect(sum()).toBe("0");
    expect(sum("9007199254740993", "1")).toBe("9007199254740994");
    expect(minus("1", "2")).toBe("-1");
    expect(isZero("000")).toBe(true);
    expect(isZero("1")).toBe(false);
    expect(toNumber("2500000")).toBe(2.5);
  });
});
