// Machines, the compute node of this computer, and what the resource commands answer.
import { failure, never, type Answers } from ".";
import { prices } from "./jobs";
import type { Evaluation, Invite, Machine, Measured, Node, Offer } from "../types";

const MINUTE = 60_000, HOUR = 60 * MINUTE;
const now = Date.now();

const id = (n: number): string => `dmm1q8${"acdefghjkl"[n % 10]}352eufqy${n}xq5eufqy352eufqy352eu${"mnpqrs"[n % 6]}`;
const offer = (cores: number, ram_mib: number, more: Partial<Offer> = {}): Offer => ({
  resources: { cores, gpus: 0, ram_mib, disk_mib: 20_480 }, from_minute: null, to_minute: null, weekdays: 127, until: null,
  min_core_hour: "0", min_gpu_hour: "0", min_ram_gib_hour: "0", min_disk_gib_hour: "0", ends_leases: false, ...more,
});
const free = { cores: 0, gpus: 0, ram_mib: 0, disk_mib: 0 };

const measured: Measured = {
  name: "sams-desk", platform: "Linux 6.12, x86_64", cpu: "AMD Ryzen 7 5800X 8-Core Processor", gpu: "",
  resources: { cores: 16, gpus: 0, ram_mib: 31_940, disk_mib: 412_300 }, speed: 2_914, measured: now - 3 * MINUTE,
};

const lent = (n: number, more: Partial<Machine>): Machine => ({
  id: id(n), name: `machine-${n}`, here: false, platform: "Linux 6.1, x86_64", cpu: "Intel Core i5-8350U", gpu: "",
  resources: { cores: 8, gpus: 0, ram_mib: 15_872, disk_mib: 210_000 }, speed: 1_850, state: "idle", reason: "ready; nothing runs",
  offer: offer(4, 8_192), pending: null, used: free, reliability: 942, leases_finished: 31, leases_lost: 1, leases: [], earned: "12384500", held: "31250", vests: now + 21 * MINUTE, auditing: null,
  paused_until: null, ...more,
});

// The ids of lab-7 and office are those of the demo's history.
const some: Machine[] = [
  lent(0, { name: "sams-desk", here: true, platform: measured.platform, cpu: measured.cpu, resources: measured.resources, speed: measured.speed,
    state: "in_use", reason: "works for at least one lease", offer: offer(8, 16_384, { from_minute: 18 * 60, to_minute: 8 * 60, weekdays: 31, min_core_hour: "500000", ends_leases: true }),
    used: { cores: 4, gpus: 0, ram_mib: 4_096, disk_mib: 2_048 }, leases: ["lease-902", "lease-917"], reliability: 970 }),
  lent(1, { id: "dmm1q8352eufqy352eufqy352eufqy352eufq8c4xq0", name: "lab-7", state: "in_use", reason: "works for at least one lease", offer: offer(4, 8_192), used: { cores: 4, gpus: 0, ram_mib: 8_192, disk_mib: 4_096 }, leases: ["lease-903"], auditing: "audit-118" }),
  lent(2, { name: "render-box", gpu: "NVIDIA RTX 4080", resources: { cores: 32, gpus: 2, ram_mib: 128_000, disk_mib: 1_900_000 }, state: "draining", reason: "finishes its leases before its changed offer holds",
    offer: { ...offer(16, 65_536), resources: { cores: 16, gpus: 2, ram_mib: 65_536, disk_mib: 204_800 } }, pending: offer(8, 32_768), used: { cores: 12, gpus: 1, ram_mib: 24_576, disk_mib: 8_192 }, leases: ["lease-911"], earned: "214904120", speed: 4_120 }),
  lent(3, { name: "robin-laptop", state: "panic", reason: "its heartbeats stopped: start its worker again", reliability: 611, leases_lost: 6, earned: "420112" }),
  lent(4, { id: "dmm1qz352eufqy352eufqy352eufqy352eufq8c4xq7", name: "office", state: "panic", reason: "its heartbeats stopped: start its worker again", offer: offer(2, 4_096, { until: now + 9 * 24 * HOUR }) }),
  lent(5, { name: "old-server", state: "withdrawn", reason: "not offered", offer: null, earned: "3104000", held: "0", vests: null }),
];

export function machineList(state: string): Machine[] {
  if (state === "empty") return [];
  if (state !== "long") return some;
  const more = Array.from({ length: 180 }, (_, n) => ({ ...some[1 + (n % 5)]!, id: id(n + 6), here: false, name: n % 30 === 0 ? "a-machine-whose-name-is-as-long-as-somebody-may-want-to-type-it-into-a-field" : `rack-${n}` }));
  const paused: Partial<Machine> = { state: "paused", reason: "paused from here until 23:30", offer: null, used: free, leases: [], paused_until: now + 2 * HOUR };
  return [{ ...some[0]!, ...paused }, ...some.slice(1), ...more];
}

const log = Array.from({ length: 40 }, (_, line) => `${new Date(now - (40 - line) * 9_000).toISOString().slice(11, 19)} INFO lease-902: round ${1_400 + line} of 5000, loss ${(0.4 - line * 0.003).toFixed(4)}`);

export function node(state: string): Node {
  const off: Node = { running: false, since: null, machine: null, cpu_percent: 0, ram_mib: 0, jobs: [], earned: "0", log: [], error: null, elsewhere: null, remote: [] };
  if (state === "empty") return off;
  if (state === "offline") return { ...off, machine: id(0), log: log.slice(-6), error: "the trainer could not be started: no space left on device" };
  return {
    running: true, since: now - 5 * HOUR - 12 * MINUTE, machine: id(0), cpu_percent: state === "long" ? 0.4 : 387.4, ram_mib: state === "long" ? 41 : 3_210, jobs: state === "long" ? [] : ["job-417", "job-416"], earned: "1312048", log, error: null, elsewhere: null,
    remote: [{ target: "sam@lab7.pdx.edu", running: true, line: "lease-903: round 812 of 5000" }, { target: "sam@office", running: false, line: "ssh: connect to host office port 22: No route to host" }],
  };
}

function evaluation(asked: Offer): Evaluation {
  const refused = asked.resources.cores > 16 ? `this computer has 16 cores, ${asked.resources.cores} are offered` : null;
  const slots = prices.slots.map((slot, at) => {
    const reaches = BigInt(slot.core_hour) >= BigInt(asked.min_core_hour);
    const open_ms = asked.from_minute === null ? 6 * HOUR : [6, 2, 0, 6][at]! * HOUR;
    const full = reaches ? (BigInt(slot.core_hour) * BigInt(asked.resources.cores) * BigInt(open_ms)) / BigInt(HOUR) : 0n;
    const use = [420, 610, 780, 535][at]!;
    return { slot: at, name: slot.name, begins: now + at * 6 * HOUR, open_ms, core_hour: slot.core_hour, reaches_minimum: reaches, utilisation_permille: use,
      full: full.toString(), expected: ((full * BigInt(use)) / 1000n).toString() };
  });
  const total = (of: "full" | "expected") => slots.reduce((all, slot) => all + BigInt(slot[of]), 0n).toString();
  return { refused, slots: refused ? [] : slots, full: total("full"), expected: total("expected") };
}

const later = <T>(value: T, ms = 900): Promise<T> => new Promise((done) => setTimeout(() => done(value), ms));

/** Every command of these fails in the state `error` and stays away in the state `loading`. */
const answer = (of: (args: any) => unknown) => (args: any, state: string): unknown => {
  if (state === "loading") return never();
  if (state === "error" || state === "offline") throw failure;
  return of(args);
};

export const answers: Answers = {
  last_measured: (_, state) => (state === "full" || state === "long" ? measured : null),
  verify: answer(() => later(measured, 1_800)),
  evaluate: answer(({ offer }) => later(evaluation(offer))),
  lend: answer(() => later(id(0))),
  start_node: answer(() => later(null)),
  stop_node: answer(() => later(null)),
  pause: answer(() => later(null)),
  resume: answer(() => later(null)),
  invite: answer(({ hours }): Promise<Invite> => later({ code: "K7QD-M2XP-9A0B-CDEF", expires: Date.now() + hours * HOUR, command: "deepmarket lend join K7QD-M2XP-9A0B-CDEF --gateway http://127.0.0.1:8600", loopback: true })),
  lend_over_ssh: answer(() => later(null)),
  stop_ssh: answer(() => later(null)),
  change_offer: answer(() => later(null)),
  withdraw: answer(() => later(null)),
};
