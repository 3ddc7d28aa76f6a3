// An offer in words.
import { daysText, marketDateTime, minuteText } from "../../../lib/clock";
import { exact, isZero } from "../../../lib/money";
import { mib, plural } from "../../../lib/words";
import type { Offer, Resources } from "../../../types";
import { priceKeys, priceNames } from "./draft";

export function resourcesText(of: Resources): string {
  return [
    plural(of.cores, "core"), `${mib(of.ram_mib)} RAM`,
    ...(of.disk_mib > 0 ? [`${mib(of.disk_mib)} disk`] : []),
    ...(of.gpus > 0 ? [plural(of.gpus, "GPU")] : []),
  ].join(", ");
}

export function hoursText(offer: Offer): string {
  const days = daysText(offer.weekdays);
  if (offer.from_minute === null || offer.to_minute === null) return offer.weekdays === 127 ? "all day, every day" : `all day, ${days}`;
  return `${minuteText(offer.from_minute)}–${minuteText(offer.to_minute)}, ${days}`;
}

export const endText = (offer: Offer, offset: number): string =>
  offer.until === null ? "until it is withdrawn" : `until ${marketDateTime(offer.until, offset)}`;

/** The minimum prices that are set. */
export const minimums = (offer: Offer): { name: string; amount: string }[] =>
  priceKeys.filter((key) => !isZero(offer[key])).map((key) => ({ name: priceNames[key], amount: offer[key] }));

/** All in one line. */
export function offerLine(offer: Offer, offset: number): string {
  const price = isZero(offer.min_core_hour) ? [] : [`from ${exact(offer.min_core_hour)} a core hour`];
  return [resourcesText(offer.resources), hoursText(offer), ...(offer.until === null ? [] : [endText(offer, offset)]), ...price].join(" · ");
}
