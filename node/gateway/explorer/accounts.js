// Accounts: what they hold, and why.

import { get } from "./api.js";
import { address, el, facts, page, pager, section, svg, table } from "./dom.js";
import {
  account as accountLink, badge, block, change, count, credits, duration, grouped, job, machine, moment, permille, state,
  transaction, whole, words,
} from "./format.js";

const PAGE = 50;
const DAYS = 30;
const number = (title) => ({ title, kind: "number" });
const extra = (title) => ({ title, kind: "extra" });
const extraNumber = (title) => ({ title, kind: "number extra" });

export async function accounts({ query }) {
  const after = query.get("after") ?? undefined;
  const list = await get("accounts", { after, limit: PAGE });
  const rows = list.map((view) => [accountLink(view.id), credits(view.granted), credits(view.earned), credits(view.escrow),
    grouped(view.machines.length), grouped(view.jobs.length)]);
  return {
    title: "Accounts",
    fixed: after !== undefined,
    node: page("Market", "Accounts",
      table("Accounts", ["Account", number("Starting credits"), number("Earned"), extraNumber("In escrow"), extraNumber("Machines"),
        extraNumber("Jobs")], rows, "No account was opened yet."),
      pager(after && ["First", address(["accounts"])],
        list.length === PAGE && ["Next", address(["accounts"], { after: list.at(-1).id })])),
  };
}

/** The account of a key. */
export async function key({ args: [id], query }) {
  const view = await get(["accounts", "by-key", id]);
  return account({ args: [view.id], query });
}

export async function account({ args: [id], query }) {
  const before = query.get("before") ?? undefined;
  const of = (name, parameters) => get(["accounts", id, name], parameters);
  const [view, estimate, statement, days, history] = await Promise.all([
    get(["accounts", id]), of("estimate"), of("statement"), of("days", { days: DAYS }), of("history", { before, limit: PAGE }),
  ]);
  const total = BigInt(view.granted) + BigInt(view.earned);
  return {
    title: "Account",
    node: page("Account", whole(view.id),
      facts([
        ["Balance", credits(total)],
        ["Starting credits left", credits(view.granted)],
        ["Earned", credits(view.earned)],
        ["In escrow", credits(view.escrow)],
        ["Held until it vests", credits(view.held)],
        ["Estimated profit, 24 h", credits(estimate.profit)],
        ["Estimated cost, 24 h", credits(estimate.cost)],
      ], "figures"),
      facts([["Key", whole(view.key)], ...owned(id, view), ["Reliability of its machines", permille(view.reliability)],
        ["The last of what is held vests", moment(view.vests)],
        ["Audits of its work", `${grouped(view.audits_passed)} found it right, ${count(view.strikes, "strike")}`],
        ["Barred", view.barred ? badge("its machines take no work any more", "bad") : null]]),
      section("Why the balance is what it is", ...explained(statement)),
      section(`Profit and cost of ${DAYS} days`, ...profitAndCost(days)),
      section("History", historyTable(history),
        pager(before && ["Newest", address(["account", id])],
          history.length === PAGE && ["Older", address(["account", id], { before: `${history.at(-1).height}-${history.at(-1).index}` })]))),
  };
}

/** Links to the machines and jobs of an account. */
function owned(owner, { machines, jobs }) {
  const list = (kind, number, one, many) =>
    number > 0 ? el("a", { href: address([kind], { owner }) }, count(number, one, many)) : "none";
  return [
    ["Machines", list("machines", machines.length, "machine")],
    // The interface names the newest hundred only.
    ["Jobs", list("jobs", jobs.length, "job", jobs.length < 100 ? "jobs" : "newest jobs, and more")],
  ];
}

/** The statement with its sum. */
function explained({ lines, granted, earned, balanced, height }) {
  const sum = (part) => lines.reduce((all, line) => all + BigInt(line[part]), 0n);
  const rows = lines.map((line) => [cause(line.cause), change(line.incoming, true), change(line.outgoing, false), grouped(line.entries)]);
  if (lines.length > 0) {
    rows.push({
      attributes: { class: "sum" },
      cells: ["Together", change(sum("incoming"), true), change(sum("outgoing"), false), ""],
    });
  }
  const verdict = balanced
    ? [badge("balanced", "good"), " ", "Credits that came less those that went are ", credits(BigInt(granted) + BigInt(earned)),
      `, which is what the purses hold after block ${grouped(height)}.`]
    : [badge("not balanced", "bad"), " ", "The lines are not what the purses hold: ask the gateway's operator."];
  return [
    table("Sums of the account's whole history by cause", ["Cause", number("Came"), number("Went"), extraNumber("Entries")], rows,
      "Nothing came and nothing went."),
    el("p", { class: "note" }, verdict),
  ];
}

function cause({ kind, id }) {
  switch (kind) {
    case "starting_credits": return "Starting credits";
    case "account": return ["Transfers with ", accountLink(id)];
    case "job": return ["Budget of ", job(id)];
    case "machine": return ["Work of ", machine(id)];
    case "audits": return "Audits of others' work";
    default: return words(kind);
  }
}

function profitAndCost(entries) {
  const rows = entries.map(({ begins, line, name, paid_ms, credits: amount, receipts }) => {
    const profit = line.kind === "profit";
    return [moment(begins), profit ? machine(line.id) : job(line.id), name, duration(paid_ms), grouped(receipts), change(amount, profit)];
  });
  const columns = ["Day", "Machine or job", extra("Name"), extraNumber("Paid time"), extraNumber("Receipts"), number("Credits")];
  const days = table("What machines earned and jobs cost by day, newest first", columns, rows,
    `No receipt was paid to or by this account in ${DAYS} days.`);
  return entries.length > 0 ? [chart(entries), days] : [days];
}

/** A bar up for each day's profit and one down for its cost. The table beneath has the numbers. */
function chart(entries) {
  const newest = Number(entries[0].day);
  const sums = new Map();
  for (const { day, line, credits: amount } of entries) {
    const sum = sums.get(Number(day)) ?? { profit: 0, cost: 0 };
    sum[line.kind] += Number(amount);
    sums.set(Number(day), sum);
  }
  const most = Math.max(...[...sums.values()].flatMap(({ profit, cost }) => [profit, cost]), 1);
  const [width, half] = [20, 56];
  const bars = Array.from({ length: DAYS }, (_, at) => {
    const { profit, cost } = sums.get(newest - DAYS + 1 + at) ?? { profit: 0, cost: 0 };
    const [up, down] = [profit, cost].map((amount) => (amount > 0 ? Math.max((amount / most) * half, 1.5) : 0));
    const x = at * width + 3;
    return [
      svg("rect", { class: "in", x, y: half - up, width: width - 6, height: up }),
      svg("rect", { class: "out", x, y: half + 1, width: width - 6, height: down }),
    ];
  });
  const size = { viewBox: `0 0 ${DAYS * width} ${2 * half + 1}`, preserveAspectRatio: "none" };
  return el("figure", {},
    svg("svg", { ...size, role: "img", "aria-label": "Profit above and cost below the line, by day" },
      bars, svg("line", { x1: 0, x2: DAYS * width, y1: half + 0.5, y2: half + 0.5 })),
    el("figcaption", {}, el("span", { class: "in" }, "profit"), " above and ", el("span", { class: "out" }, "cost"),
      " below the line, the newest day on the right"));
}

function historyTable(history) {
  const rows = history.map(({ time, height, transaction: id, event }) => {
    const posted = event.event === "posted";
    return [moment(time), block(height), told(event), posted ? change(event.amount, event.incoming) : "",
      posted ? credits(event.balance) : "", id ? transaction(id) : el("span", { class: "faint" }, "block's end")];
  });
  return table("What happened to this account, newest first", ["Time", extraNumber("Block"), "What", number("Credits"),
    extraNumber("Purse after it"), extra("Transaction")], rows, "Nothing happened yet.");
}

function told(event) {
  switch (event.event) {
    case "posted": return [posting(event.cause), el("span", { class: "faint" }, ` · ${words(event.purse)} purse`)];
    case "machine": return [machine(event.machine), " is ", state(event.state)];
    case "job": return [job(event.job), " is ", state(event.state)];
    case "audit": return [`${event.audit} of ${event.lease} for `, job(event.job), " is ", words(event.state.detail ?? event.state.state)];
    default: return words(event.event);
  }
}

function posting(value) {
  const [name, about] = typeof value === "string" ? [value] : Object.entries(value)[0];
  switch (name) {
    case "starting_credits": return "starting credits";
    case "transfer_from": return ["from ", accountLink(about)];
    case "transfer_to": return ["to ", accountLink(about)];
    case "escrow": return ["budget of ", job(about)];
    case "refund": return ["back from ", job(about)];
    case "audit": return `computing ${about} again`;
    case "forfeit": return `a part of what false work lost, found by ${about}`;
    case "payout": return [`receipt ${about.sequence} for `, job(about.job), " by ", machine(about.machine)];
    default: return words(name);
  }
}
