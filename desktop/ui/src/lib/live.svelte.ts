// What Rust tells as it happens, for every view. One channel, opened when the wallet is unlocked.
import * as rust from "../rust";
import { sentence } from "./words";
import type { CommandError, Connection, Job, Live, Machine, Node, Notice, Overview, Prices, Session, Settings, Start } from "../types";

interface Told {
  connection: Connection | null;
  overview: Overview | null;
  machines: Machine[] | null;
  jobs: Job[] | null;
  prices: Prices | null;
  node: Node | null;
}

const nothing = (): Told => ({ connection: null, overview: null, machines: null, jobs: null, prices: null, node: null });

/** `null` is: not told yet. Views show a skeleton then. */
export const told: Told = $state(nothing());
export const app = $state({
  start: null as Start | null,
  session: null as Session | null,
  hidden: false,
  notices: [] as (Notice & { key: number })[],
});

let keys = 0;
export function notice(tone: Notice["tone"], title: string, text = ""): void {
  const key = keys++;
  app.notices.push({ tone, title, text, key });
  setTimeout(() => dismiss(key), tone === "bad" ? 15_000 : 6_000);
}
export function dismiss(key: number): void {
  app.notices = app.notices.filter((notice) => notice.key !== key);
}
/** Shows a failed command as a notice; forms show theirs at the field instead. */
export function failed(title: string, error: unknown): void {
  notice("bad", title, inWords(error));
}
/** Stable codes that a form shows at its field. */
export const WRONG_PASSWORD = 7001;
export const WRONG_WORDS = 7003;

/** A failure in a line: what is wrong, and what to do. For a field or a notice. */
export function inWords(error: unknown): string {
  const { message, hint } = asError(error);
  return hint ? `${sentence(message)}. ${sentence(hint)}` : sentence(message);
}
export function asError(error: unknown): CommandError {
  if (typeof error === "object" && error !== null && "message" in error && "hint" in error) return error as CommandError;
  return { code: 0, message: String(error), hint: "", retryable: false };
}

export async function begin(): Promise<void> {
  app.start = await rust.start();
  app.hidden = app.start.settings.hide_amounts;
  if (app.start.session) entered(app.start.session);
}

/** Counts up with each lock and unlock: what an older channel still tells is not for this session. */
let listening = 0;

/** Whose page this is. */
let owner: string | null = null;

/** An account is unlocked: listen. Another one begins with a fresh page: what the first typed, measured and read is not for it. */
export function entered(session: Session): void {
  if (owner !== null && owner !== session.id) {
    location.hash = "";
    location.reload();
    return;
  }
  owner = session.id;
  const mine = ++listening;
  app.session = session;
  Object.assign(told, nothing());
  if (session.open) listen(mine);
}

/** Opens the channel; again after a while where that fails. */
function listen(mine: number): void {
  const tell = (live: Live) => { if (mine === listening) hear(live); };
  rust.watch(tell).catch((error: unknown) => {
    if (mine !== listening) return;
    const { gateway = "", height = 0 } = app.start?.market ?? {};
    told.connection = { online: false, gateway, height, time: 0, error: asError(error).message };
    setTimeout(() => { if (mine === listening) listen(mine); }, 5_000);
  });
}

/** Back to the lock. What was told is forgotten. */
export async function left(): Promise<void> {
  listening++;
  app.session = null;
  app.notices = [];
  Object.assign(told, nothing());
  app.start = await rust.start();
}

/** Shows and keeps a changed setting. */
export function changeSettings(changed: Partial<Settings>): void {
  const settings = { ...app.start!.settings, ...changed };
  app.start!.settings = settings;
  app.hidden = settings.hide_amounts;
  rust.setSettings(settings).catch((error: unknown) => failed("The setting was not kept", error));
}

function hear(live: Live): void {
  switch (live.kind) {
    case "connection": told.connection = live.value; break;
    case "overview": told.overview = live.value; break;
    case "machines": told.machines = live.value; break;
    case "jobs": told.jobs = live.value; break;
    case "prices": told.prices = live.value; break;
    case "node": told.node = live.value; break;
    case "notice": notice(live.value.tone, live.value.title, live.value.text); break;
    case "locked": void left(); break;
  }
}
