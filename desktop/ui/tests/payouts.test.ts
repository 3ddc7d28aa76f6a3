import { afterEach, expect, test, vi } from "vitest";
import { clearMocks, mockIPC } from "@tauri-apps/api/mocks";
import { mount, unmount } from "svelte";
import MachinePayouts from "../src/components/MachinePayouts.svelte";
import { DAY } from "../src/lib/clock";
import type { Entry, HistoryPage, Place } from "../src/types";

const today = Date.UTC(2026, 10, 25);
const entry = (height: number, time: number, machine: string, cause = "payout"): Entry => ({
  height, index: 0, time, transaction: `t${height}`, incoming: true, amount: "250001", purse: "earned", balance: "0", why: `receipt at ${height}`,
  cause, job: null, machine, lease: null, receipt: 1, account: null, audit: null,
});
const pages: HistoryPage[] = [
  { entries: [entry(9, today + DAY + 5, "m1"), entry(8, today + DAY + 1, "m2")], next: { height: 8, index: 0 } },
  { entries: [entry(7, today + 3, "m1"), entry(6, today + 2, "m1", "transfer_from"), entry(5, today + 1, "m2")], next: { height: 5, index: 0 } },
  { entries: [entry(4, today, "m1"), entry(3, today - 1, "m1")], next: { height: 3, index: 0 } },
  { entries: [entry(2, today - DAY, "m1")], next: null },
];

afterEach(() => clearMocks());

test("a machine's payouts of a day are found behind newer ones, and reading stops at the day", async () => {
  const asked: (Place | null)[] = [];
  mockIPC((_, args) => {
    asked.push((args as { before: Place | null }).before);
    return pages[asked.length - 1] as never;
  });
  const shown = mount(MachinePayouts, { target: document.body, props: { machine: "m1", name: "lab-7", day: today, onclose: () => {} } });
  await vi.waitFor(() => expect(document.body.textContent).toContain("2 payouts"));
  expect(asked).toEqual([null, { height: 8, index: 0 }, { height: 5, index: 0 }]);
  const text = document.body.textContent;
  for (const found of ["receipt at 7", "receipt at 4", "0.500002 credits"]) expect(text).toContain(found);
  for (const other of ["receipt at 9", "receipt at 6", "receipt at 5", "receipt at 3"]) expect(text).not.toContain(other);
  expect([...document.querySelectorAll("a")].map((link) => link.getAttribute("href"))).toContain("#/account/transaction/t7");
  await unmount(shown);
});
