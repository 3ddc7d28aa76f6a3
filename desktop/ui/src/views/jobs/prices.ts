// What makes slots comparable.
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
