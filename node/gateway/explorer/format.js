// How values are shown.

import { el, link } from "./dom.js";

const MICRO = 1_000_000n;

/** Microcredits as credits with all six decimals, so that columns align; zeros at the end are faint. */
export function credits(micro, sign = "") {
  const inexact = typeof micro === "number" && !Number.isSafeInteger(micro) ? "≈ " : "";
  const whole = BigInt(micro) / MICRO;
  const decimals = String(BigInt(micro) % MICRO).padStart(6, "0");
  const told = decimals.replace(/0+$/, "");
  const zeros = decimals.slice(told.length);
  const point = told ? ["." + told, zeros && el("span", { class: "zeros" }, zeros)] : el("span", { class: "zeros" }, "." + zeros);
  return el("span", { class: "amount" }, sign, inexact, grouped(whole), point || null);
}

/** A whole number with its thousands apart. */
export function grouped(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** An amount that came (+) or went (−); nothing is a dash. */
export function change(micro, incoming) {
  if (BigInt(micro) === 0n) return el("span", { class: "faint" }, "–");
  return el("span", { class: incoming ? "in" : "out" }, credits(micro, incoming ? "+" : "−"));
}

/** A moment in the reader's time zone; the title has it in UTC. */
export function moment(ms) {
  if (ms === null || ms === undefined) return null;
  const date = new Date(Number(ms));
  if (Number.isNaN(date.getTime())) return String(ms);
  const pad = (number) => String(number).padStart(2, "0");
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  const clock = `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
  return el("time", { datetime: date.toISOString(), title: date.toISOString().replace("T", " ").replace("Z", " UTC") },
    `${day} ${clock}`);
}

/** A length of time. */
export function duration(ms) {
  const seconds = Number(ms) / 1_000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** An amount of memory or disk. */
export function mebibytes(mib) {
  return mib >= 1024 && mib % 1024 === 0 ? `${grouped(mib / 1024)} GiB` : `${grouped(mib)} MiB`;
}

/** Thousandths as percent. */
export function permille(thousandths) {
  return `${(thousandths / 10).toFixed(1)} %`;
}

/** A long id or hash with its middle left out; the title has all of it. */
export function short(text, start = 10, end = 6) {
  const bare = String(text).replace(/^blake3:/, "");
  if (bare.length <= start + end + 1) return el("span", { class: "id" }, bare);
  return el("span", { class: "id", title: text }, `${bare.slice(0, start)}…${bare.slice(-end)}`);
}

/** A whole id or hash, which may wrap. */
export function whole(text) {
  return el("span", { class: "id whole" }, String(text));
}

export const account = (id) => link(["account", id], short(id, 9, 4));
export const machine = (id) => link(["machine", id], short(id, 10, 4));
export const job = (id) => link(["job", id], id);
export const block = (height) => link(["block", height], grouped(height));
export const transaction = (id) => link(["tx", id], short(id));

/** A state with its colour. */
export function badge(text, tone) {
  return el("span", { class: `badge ${tone}` }, text);
}

const TONES = {
  queued: "wait", matched: "work", running: "work", recovering: "wait", finished: "good", cancelled: "plain", panic: "bad",
  idle: "good", in_use: "work", paused: "wait", draining: "wait", withdrawn: "plain",
  active: "work", failed: "bad", lost: "bad", ended: "plain",
};

/** A state as the interface names it: a name, or a name with details. */
export function state(value) {
  const name = value?.state ?? value;
  return badge(words(name), TONES[name] ?? "plain");
}

/** A name of the interface as words. A name with details gives both. */
export function words(value) {
  if (value !== null && typeof value === "object") {
    return Object.entries(value).map(([name, detail]) => `${words(name)}: ${words(detail)}`).join(", ");
  }
  return String(value).replaceAll("_", " ");
}

/** The same number of things in words. */
export function count(number, one, many = one + "s") {
  return `${grouped(number)} ${number === 1 ? one : many}`;
}

/** Resources in words. */
export function resources({ cores, gpus, ram_mib, disk_mib }) {
  const gpu = gpus > 0 ? [count(gpus, "GPU")] : [];
  return [count(cores, "core"), ...gpu, `${mebibytes(ram_mib)} memory`, `${mebibytes(disk_mib)} disk`].join(", ");
}

const WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/** When an offer holds, in words. */
export function availability({ hours, weekdays, until }) {
  const clock = (minute) => `${String(Math.floor(minute / 60)).padStart(2, "0")}:${String(minute % 60).padStart(2, "0")}`;
  const days = WEEKDAYS.filter((_, day) => (weekdays >> day) & 1);
  const parts = [];
  if (hours) parts.push(`${clock(hours.from_minute)} to ${clock(hours.to_minute)}`);
  if (days.length < 7) parts.push(days.join(", "));
  if (parts.length === 0) parts.push(until ? "at any time" : "always");
  return [parts.join(", "), until ? [" until ", moment(until)] : null];
}

/** Unit prices in one line; units without a price are left out. */
export function minimum(prices) {
  const units = [["core_hour", "a core-hour"], ["gpu_hour", "a GPU-hour"], ["ram_gib_hour", "a GiB-hour of memory"],
    ["disk_gib_hour", "a GiB-hour of disk"]];
  const asked = units.filter(([unit]) => prices[unit] > 0);
  if (asked.length === 0) return "none";
  return asked.map(([unit, name], at) => [at > 0 ? ", " : null, credits(prices[unit]), ` ${name}`]);
}
