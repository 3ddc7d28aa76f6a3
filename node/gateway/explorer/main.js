// Finds the page that the address names, shows it, and keeps it fresh while blocks come.

import { follow, known, Problem } from "./api.js";
import { account, accounts, key } from "./accounts.js";
import { block, blocks, tx } from "./chain.js";
import { address, el, morph } from "./dom.js";
import { grouped, moment } from "./format.js";
import { job, jobs, machine, machines, market } from "./market.js";

/** The least time between two looks at the same page, in milliseconds. */
const REFRESH = 2_000;

/** Pages by the first part of the address; those with an argument need one. */
const PAGES = {
  "": [market, 0], blocks: [blocks, 0], block: [block, 1], tx: [tx, 1], jobs: [jobs, 0], job: [job, 1],
  machines: [machines, 0], machine: [machine, 1], accounts: [accounts, 0], account: [account, 1], key: [key, 1],
};
/** Which section of the navigation a page belongs to. */
const SECTIONS = { block: "blocks", tx: "blocks", job: "jobs", machine: "machines", account: "accounts", key: "accounts" };

const main = document.getElementById("main");
const live = document.getElementById("live");
const tip = document.getElementById("tip");

/** Counts what was asked for, so that an answer that comes too late is dropped. */
let turn = 0;
let shown = { fixed: true, at: 0 };
let [pending, refreshing] = [undefined, false];

function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  let parts;
  try {
    parts = path.split("/").map(decodeURIComponent);
  } catch {
    parts = ["?"];
  }
  const [name, ...args] = parts;
  const [show, needs] = Object.hasOwn(PAGES, name) ? PAGES[name] : [];
  return { name, args, query: new URLSearchParams(query), show: show && args.length === needs ? show : nothing };
}

async function nothing() {
  throw new Problem("There is no such page.", "Use the sections above, or search.");
}

function problemView(problem) {
  if (!(problem instanceof Problem)) console.error(problem);
  const [text, hint] = problem instanceof Problem ? [problem.message, problem.hint] : ["This page can't be shown.", String(problem)];
  const node = el("article", { class: "problem", role: "alert" }, el("h1", {}, text), el("p", {}, hint));
  return { title: "Problem", fixed: false, node };
}

/** Shows the page of the address anew. The focus goes along where somebody went there. */
async function open({ moved = true } = {}) {
  const mine = ++turn;
  const { name, show, ...rest } = route();
  const section = SECTIONS[name] ?? name;
  for (const item of document.querySelectorAll("header nav a")) {
    if (item.getAttribute("href") === address(section ? [section] : [])) item.setAttribute("aria-current", "page");
    else item.removeAttribute("aria-current");
  }
  main.setAttribute("aria-busy", "true");
  const result = await show(rest).catch(problemView);
  if (mine !== turn) return;
  put(result, (node) => {
    main.replaceChildren(node);
    if (moved) main.focus({ preventScroll: true });
    scrollTo(0, 0);
  });
}

/** Brings the page that is shown up to date, where that can change and somebody looks. */
async function refresh() {
  pending = undefined;
  if (shown.fixed || document.hidden || refreshing || main.hasAttribute("aria-busy")) return;
  refreshing = true;
  const mine = turn;
  const { show, ...rest } = route();
  let result;
  try {
    result = await show(rest);
  } catch (problem) {
    // Nobody answers: what is shown stays, and the header says that it isn't live.
    if (!(problem instanceof Problem) || problem.status) result = problemView(problem);
  }
  refreshing = false;
  if (mine !== turn) return;
  if (result) put(result, (node) => morph(main.firstElementChild, node));
}

function put({ title, fixed = false, node }, place) {
  place(node);
  main.removeAttribute("aria-busy");
  document.title = `${title} · DeepMarket`;
  shown = { fixed, at: performance.now() };
}

function soon() {
  pending ??= setTimeout(refresh, Math.max(0, shown.at + REFRESH - performance.now()));
}

const NAMES = "Search for a height, a transaction's id, an account (dm1…), a job (job-1), a machine (dmm1…) or a key.";

/** Finds the page of what somebody typed: a height, an id, a key. */
async function find(text) {
  const hash = /^(blake3:)?[0-9a-f]{64}$/i;
  if (/^[0-9][0-9,_ ]*$/.test(text)) return address(["block", text.replace(/[^0-9]/g, "")]);
  if (/^job-[0-9]+$/i.test(text)) return address(["job", text.toLowerCase()]);
  if (/^dmm1[0-9a-z]+$/i.test(text)) return address(["machine", text.toLowerCase()]);
  if (/^dm1[0-9a-z]+$/i.test(text)) return address(["account", text.toLowerCase()]);
  if (!hash.test(text)) return null;
  // 64 hex digits are a transaction's id or somebody's key.
  const digits = text.toLowerCase();
  if (!digits.startsWith("blake3:") && (await known(["accounts", "by-key", digits]))) return address(["key", digits]);
  return address(["tx", digits]);
}

const form = document.getElementById("search");
const query = document.getElementById("query");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = query.value.trim();
  if (!text) return;
  try {
    const found = await find(text);
    if (!found) throw new Problem(`Nothing is named “${text}”.`, NAMES);
    query.value = "";
    if (location.hash === found) open();
    else location.hash = found;
  } catch (problem) {
    turn += 1;
    put({ ...problemView(problem), fixed: true }, (node) => main.replaceChildren(node));
  }
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => open());
document.addEventListener("visibilitychange", () => document.hidden || soon());

open({ moved: false });
follow(
  ({ height, time }) => {
    live.dataset.state = "live";
    tip.replaceChildren(`Block ${grouped(height)}`, el("span", { class: "since" }, " · ", moment(time)));
    soon();
  },
  (state) => {
    live.dataset.state = state;
    if (state === "lost") tip.replaceChildren("Not connected");
    else if (!tip.querySelector("time")) tip.replaceChildren("Connected");
  },
);
