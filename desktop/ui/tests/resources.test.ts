import { expect, test } from "vitest";
import { clockName, daysText, marketDate, marketMoment, marketTime, parseMinute } from "../src/lib/clock";
import { draftOf, newDraft, read } from "../src/views/resources/offer/draft";
import { hoursText, offerLine, resourcesText } from "../src/views/resources/offer/words";
import type { Offer, Resources } from "../src/types";

const HOUR = 3_600_000;
const machine: Resources = { cores: 16, gpus: 0, ram_mib: 31_940, disk_mib: 412_300 };
const now = Date.UTC(2026, 10, 25, 12);
const nightly: Offer = {
  resources: { cores: 3, gpus: 0, ram_mib: 1_000, disk_mib: 5_000 }, from_minute: 1110, to_minute: 480, weekdays: 31, until: Date.UTC(2026, 11, 24, 5, 30),
  min_core_hour: "1234500000", min_gpu_hour: "0", min_ram_gib_hour: "1", min_disk_gib_hour: "0", ends_leases: true,
};

test("an offer survives the form unchanged, to the MiB, the minute and the microcredit", () => {
  for (const offset of [0, -5 * HOUR, 5.5 * HOUR]) expect(read(draftOf(nightly, offset), machine, offset, now)).toEqual({ offer: nightly, problems: null });
});

test("a new draft is a part of the machine and an offer at any price", () => {
  const { offer } = read(newDraft(machine), machine, 0, now);
  expect(offer).toMatchObject({ resources: { cores: 8, gpus: 0, ram_mib: 15_360, disk_mib: 40_960 }, from_minute: null, to_minute: null, weekdays: 127, until: null, min_core_hour: "0" });
});

test("what can't be meant is said at its field", () => {
  const draft = newDraft(machine);
  draft.resources = { cores: 17, gpus: 1, ram_mib: NaN, disk_mib: 0 };
  draft.allDay = false;
  [draft.from, draft.to] = ["8", "08:00"];
  draft.weekdays = 0;
  draft.ends = true;
  draft.endDate = "2026-11-24";
  draft.prices.min_core_hour = "a lot";
  const { offer, problems } = read(draft, machine, 0, now);
  expect(offer).toBeNull();
  expect(problems).toMatchObject({
    cores: "The machine has 16 cores", gpus: "The machine has 0 GPUs", ram_mib: "Offer at least a part of it", weekdays: "Choose at least one day",
    end: "This is over already", min_core_hour: "Write credits like 0.5, with at most 6 decimals",
  });
  expect(problems?.hours).toContain("the same");
  expect(read({ ...draft, from: "25:00" }, machine, 0, now).problems?.hours).toBe("Write times like 18:00");
});

test("a machine that isn't known yet has no limits", () => {
  expect(read(newDraft(null), null, 0, now).problems).toBeNull();
});

test("an offer in words", () => {
  expect(resourcesText({ cores: 1, gpus: 2, ram_mib: 2_048, disk_mib: 0 })).toBe("1 core, 2.0 GiB RAM, 2 GPUs");
  expect(hoursText(nightly)).toBe("18:30–08:00, Mon–Fri");
  expect(hoursText({ ...nightly, from_minute: null, to_minute: null, weekdays: 127 })).toBe("all day, every day");
  expect(offerLine(nightly, 0)).toBe("3 cores, 1000.0 MiB RAM, 4.9 GiB disk · 18:30–08:00, Mon–Fri · until Dec 24, 05:30 · from 1\u202f234.5 a core hour");
});

test("the market's clock", () => {
  expect(["0", "9:05", "18", "24:00", "24:01", "12:60", "x", ""].map(parseMinute)).toEqual([0, 545, 1080, 0, null, null, null, null]);
  expect([0, -5 * HOUR, 5.5 * HOUR].map(clockName)).toEqual(["UTC", "UTC−05:00", "UTC+05:30"]);
  expect([marketDate(now, -13 * HOUR), marketTime(now, -13 * HOUR)]).toEqual(["Nov 24", "23:00"]);
  expect(marketMoment("2026-11-25", 720, 0)).toBe(now);
  expect([marketMoment("2026-02-30", 0, 0), marketMoment("25.11.2026", 0, 0)]).toEqual([null, null]);
  expect([127, 31, 96, 0b0010101, 0b0011110, 0].map(daysText)).toEqual(["every day", "Mon–Fri", "Sat, Sun", "Mon, Wed, Fri", "Tue–Fri", "on no day"]);
});
