// What makes slots comparable, and the market's clock in words.
import { sum } from "../../lib/money";
import type { Prices, SlotPrice } from "../../types";

/** An hour of a usual worker: one core and one GiB of memory. */
export const usual = (slot: SlotPrice): string => sum(slot.core_hour, slot.ram_gib_hour);

/** `−23 %`, `+5 %` or `the same`: of the usual worker, against the current slot. */
export function against(prices: Prices, slot: SlotPrice): { text: string; cheaper: boolean } {
  const now = BigInt(usual(prices.slots[prices.current_slot]!)), then = BigInt(usual(slot));
  const difference = then > now ? then - now : now - then;
  const percent = now === 0n ? 0n : (difference * 100n + now / 2n) / now;
  if (percent === 0n) return { text: "the same", cheaper: false };
  return { text: `${then > now ? "+" : "−"}${percent} %`, cheaper: then < now };
}

/** `UTC−5`, `UTC+5:30`, `UTC`. */
export function zone(offsetMs: number): string {
  const minutes = Math.round(Math.abs(offsetMs) / 60_000);
  if (minutes === 0) return "UTC";
  const rest = minutes % 60;
  return `UTC${offsetMs < 0 ? "−" : "+"}${Math.floor(minutes / 60)}${rest ? ":" + String(rest).padStart(2, "0") : ""}`;
}

/** A moment on the market's clock, as `18:00`. */
export const marketTime = (ms: number, offsetMs: number): string => new Date(ms + offsetMs).toISOString().slice(11, 16);
