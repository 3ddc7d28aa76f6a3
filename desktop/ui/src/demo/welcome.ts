import type { Answers } from ".";
import type { Market, Session, Start } from "../types";

const market: Market = { gateway: "http://127.0.0.1:8600", name: "local", chain: "9f31c0".padEnd(64, "4ae7"), validators: 4, height: 1834, known: true, was: null };
const session: Session = { name: "sam", id: "dma1qy352eufqy352eufqy352eufqy352eufqy3c4xq", key: "dmk1".padEnd(60, "q8z"), open: true };

export const answers: Answers = {
  start: (_, state): Start => ({
    market: state === "first" ? null : market,
    local: "http://127.0.0.1:8600",
    accounts: state === "first" ? [] : [{ name: "sam", id: session.id }, { name: "robin", id: session.id.replace("352", "9xq") }],
    session: state === "first" || state === "locked" ? null : session,
    settings: { theme: (new URLSearchParams(location.search).get("theme") ?? "system") as "system", lock_minutes: 15, hide_amounts: false, notify: true },
    version: "0.1.0",
  }),
  still_here: () => null,
  set_settings: () => null,
  lock: () => null,
};
