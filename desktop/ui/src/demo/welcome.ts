import { failure, never, type Answers } from ".";
import type { CommandError, Market, Session, Start } from "../types";

const market: Market = { gateway: "http://127.0.0.1:8600", name: "local", chain: "9f31c0".padEnd(64, "4ae7"), validators: 4, height: 1834, known: true, was: null };
const session: Session = { name: "sam", id: "dm1qy352eufqy352eufqy352eufqy352eufqyc4xq", key: "8f2c".padEnd(64, "61d9b0"), open: true };
const words = ("ocean ladder velvet copper march siren cactus bright fold anchor tunnel lemon " +
  "praise window hybrid scout ribbon galaxy dentist melody urge knife flavor zebra").split(" ");
const wrongPassword: CommandError = { code: 7001, message: "the password is wrong", hint: "", retryable: false };

const parameters = new URLSearchParams(location.search);
let current: Market | null = market;
const later = <T>(value: T, ms = 400): Promise<T> => new Promise((resolve) => setTimeout(() => resolve(value), ms));
/** `wrong` is the password that fails. */
const checked = <T>(password: string, value: T) => later(null).then(() => { if (password === "wrong") throw wrongPassword; return value; });

export const answers: Answers = {
  start: (_, state): Start => ({
    market: state === "first" && current === market ? null : current,
    local: parameters.has("nolocal") ? null : "http://127.0.0.1:8600",
    accounts: state === "first" ? [] : [{ name: "sam", id: session.id }, { name: "robin", id: session.id.replace("352", "9xq") }],
    session: state === "first" || state === "locked" ? null : session,
    settings: { theme: (parameters.get("theme") ?? "system") as "system", lock_minutes: 15, hide_amounts: false, notify: true },
    version: "0.1.0",
  }),
  find_market: ({ gateway }, state) => {
    if (state === "loading") return never();
    if (state === "error" || gateway?.includes("nobody")) throw { ...failure, message: `the gateway at ${gateway} doesn't answer` };
    if (!gateway || gateway === market.gateway) return later({ ...market, known: state !== "first" });
    const other = { ...market, gateway, name: "psu", chain: "c07a11".padEnd(64, "d3f9"), validators: 7, known: false };
    return later({ ...other, was: gateway.includes("moved") ? market.chain : null });
  },
  choose_market: ({ gateway, chain }) => later((current = { ...market, gateway, chain })),
  new_words: (_, state) => (state === "loading" ? never() : later(words)),
  create_account: ({ name, identity }) => later(null, 900).then(() => {
    if (identity.startsWith("used")) throw { code: 2104, message: "this identity has an account already", hint: "restore it from its words, or use another identity", retryable: false };
    return { ...session, name };
  }),
  restore_account: ({ name, words: typed }) => later(null).then(() => {
    if (!typed.startsWith("ocean")) throw { code: 7003, message: "these are not recovery words: the checksum is wrong", hint: "compare each word and their order with your paper", retryable: false };
    return { ...session, name, open: false };
  }),
  import_key: ({ name, filePassword }) => checked(filePassword, { ...session, name }),
  open_account: () => later(session, 900),
  unlock: ({ name, password }) => checked(password, { ...session, name, open: !name.startsWith("robin") }),
  change_password: ({ oldPassword }) => checked(oldPassword, null),
  show_words: ({ password }) => checked(password, words),
  export_key: () => later(null),
  still_here: () => null,
  set_settings: () => null,
  lock: () => null,
};
