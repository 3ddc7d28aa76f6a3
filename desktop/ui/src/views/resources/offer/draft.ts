// What is typed into the offer form, and the offer that it means.
import { DAY, marketDateField, marketMoment, marketTime, minuteText, parseMinute } from "../../../lib/clock";
import { exact, isZero, parse } from "../../../lib/money";
import type { Offer, Resources } from "../../../types";

export interface Draft {
  resources: Resources;
  allDay: boolean;
  from: string;
  to: string;
  weekdays: number;
  ends: boolean;
  endDate: string;
  endTime: string;
  /** As typed; empty is no minimum. */
  prices: Record<Price, string>;
  endsLeases: boolean;
}

export type Price = "min_core_hour" | "min_gpu_hour" | "min_ram_gib_hour" | "min_disk_gib_hour";
export const priceNames: Record<Price, string> = {
  min_core_hour: "Core hour", min_gpu_hour: "GPU hour", min_ram_gib_hour: "GiB of RAM, an hour", min_disk_gib_hour: "GiB of disk, an hour",
};
export const priceKeys = Object.keys(priceNames) as Price[];

export type Problems = Partial<Record<keyof Resources | "hours" | "weekdays" | "end" | Price, string>>;

/** An offer that was evaluated and found legitimate. */
export interface Passed { offer: Offer; expected: string }

/** What the form begins with: half of the cores and of the memory, a tenth of the disk, all day. */
export function newDraft(of: Resources | null): Draft {
  const all = of ?? { cores: 4, gpus: 0, ram_mib: 8192, disk_mib: 102_400 };
  return {
    resources: { cores: Math.max(1, Math.floor(all.cores / 2)), gpus: 0, ram_mib: rounded(all.ram_mib / 2), disk_mib: rounded(all.disk_mib / 10) },
    allDay: true, from: "18:00", to: "08:00", weekdays: 127, ends: false, endDate: "", endTime: "00:00",
    prices: { min_core_hour: "", min_gpu_hour: "", min_ram_gib_hour: "", min_disk_gib_hour: "" }, endsLeases: false,
  };
}

/** Whole GiB where there is at least one. */
function rounded(mib: number): number {
  return mib >= 1024 ? Math.floor(mib / 1024) * 1024 : Math.floor(mib);
}

export function draftOf(offer: Offer, offset: number): Draft {
  const allDay = offer.from_minute === null || offer.to_minute === null;
  return {
    resources: { ...offer.resources },
    allDay,
    from: allDay ? "18:00" : minuteText(offer.from_minute!),
    to: allDay ? "08:00" : minuteText(offer.to_minute!),
    weekdays: offer.weekdays,
    ends: offer.until !== null,
    endDate: offer.until === null ? "" : marketDateField(offer.until, offset),
    endTime: offer.until === null ? "00:00" : marketTime(offer.until, offset),
    prices: Object.fromEntries(priceKeys.map((key) => [key, isZero(offer[key]) ? "" : exact(offer[key]).replace(/\s/g, "")])) as Record<Price, string>,
    endsLeases: offer.ends_leases,
  };
}

/** The offer that the form means; where something can't be meant, what and where. `limits`: the machine, where it is known. */
export function read(draft: Draft, limits: Resources | null, offset: number, now: number): { offer: Offer; problems: null } | { offer: null; problems: Problems } {
  const problems: Problems = {};
  const { resources } = draft;
  const names: Record<keyof Resources, string> = { cores: "cores", gpus: "GPUs", ram_mib: "MiB of RAM", disk_mib: "MiB of disk" };
  for (const key of Object.keys(names) as (keyof Resources)[]) {
    const least = key === "cores" || key === "ram_mib" ? 1 : 0;
    if (!Number.isInteger(resources[key]) || resources[key] < least) problems[key] = least ? "Offer at least a part of it" : "Not a number";
    else if (limits && resources[key] > limits[key]) problems[key] = `The machine has ${limits[key]} ${names[key]}`;
  }
  const from = parseMinute(draft.from), to = parseMinute(draft.to);
  if (!draft.allDay) {
    if (from === null || to === null) problems.hours = "Write times like 18:00";
    else if (from === to) problems.hours = "From and to are the same; for the whole day choose “all day”";
  }
  if (draft.weekdays === 0) problems.weekdays = "Choose at least one day";
  const minute = parseMinute(draft.endTime);
  const until = draft.ends && minute !== null ? marketMoment(draft.endDate, minute, offset) : null;
  if (draft.ends && until === null) problems.end = "Choose a date and a time like 18:00";
  else if (until !== null && until <= now) problems.end = "This is over already";
  else if (until !== null && until > now + 3650 * DAY) problems.end = "This is more than ten years away";
  const amounts = {} as Record<Price, string>;
  for (const key of priceKeys) {
    const amount = draft.prices[key].trim() === "" ? "0" : parse(draft.prices[key]);
    if (amount === null) problems[key] = "Write credits like 0.5, with at most 6 decimals";
    else amounts[key] = amount;
  }
  if (Object.keys(problems).length > 0) return { offer: null, problems };
  return {
    offer: { resources: { ...resources }, from_minute: draft.allDay ? null : from, to_minute: draft.allDay ? null : to, weekdays: draft.weekdays, until, ...amounts, ends_leases: draft.endsLeases },
    problems: null,
  };
}
