// The market: prices, jobs, machines.

import { get } from "./api.js";
import { address, el, facts, page, pager, section, table } from "./dom.js";
import {
  account, availability, badge, block, count, credits, duration, grouped, job as jobLink, machine as machineLink, minimum, moment,
  permille, resources, short, state, transaction, whole, words,
} from "./format.js";
import { blockTable } from "./chain.js";

const PAGE = 25;
const number = (title) => ({ title, kind: "number" });
const extra = (title) => ({ title, kind: "extra" });
const extraNumber = (title) => ({ title, kind: "number extra" });

export async function market() {
  const [status, ledger, prices, blocks, jobs] = await Promise.all([
    get("status"), get("ledger"), get("prices"), get("blocks", { limit: 8 }), get("jobs", { limit: 8 }),
  ]);
  return {
    title: "Market",
    node: page("Market", status.name,
      facts([
        ["Block", block(status.height)],
        ["Validators", grouped(status.validators)],
        ["Waiting transactions", grouped(status.mempool)],
        ["Credits minted", credits(ledger.minted)],
        ["In purses", credits(ledger.purses)],
        ["In escrow", credits(ledger.escrow)],
        ["Held until it vests", credits(ledger.held)],
        ["In the treasury", credits(ledger.treasury)],
        ["Burned", BigInt(ledger.burned) > 0n ? credits(ledger.burned) : null],
      ], "figures"),
      ledger.conserved ? null : el("p", { class: "problem" }, "The credits of all places together are not what was minted."),
      section("Prices of the day", priceTable(prices),
        el("p", { class: "note" }, "Credits for one hour. The marked slot is the current one; it ends at ", moment(prices.slot_ends),
          ".")),
      section("Latest jobs", jobTable(jobs, "Latest jobs")),
      section("Latest blocks", blockTable(blocks, "Latest blocks"))),
  };
}

function priceTable({ prices, current_slot, slot_names }) {
  const units = ["core_hour", "gpu_hour", "ram_gib_hour", "disk_gib_hour"];
  const rows = prices.slots.map((slot, at) => ({
    attributes: at === current_slot ? { class: "current", "aria-current": "time" } : {},
    cells: [[slot_names[at], at === current_slot ? [" ", badge("now", "work")] : null], ...units.map((unit) => credits(slot[unit]))],
  }));
  return table("Prices of today's four slots", ["Slot", number("Core"), number("GPU"), number("GiB memory"), number("GiB disk")],
    rows, "");
}

function jobTable(jobs, caption) {
  const columns = ["Job", "Name", "State", extra("Why"), number("Paid"), extraNumber("Budget"), extra("Submitted")];
  const rows = jobs.map((job) => [jobLink(job.id), job.name, state(job.state), job.reason, credits(job.paid), credits(job.budget),
    moment(job.submitted)]);
  return table(caption, columns, rows, "No job was submitted yet.");
}

export async function jobs({ query }) {
  const [before, owner] = [query.get("before") ?? undefined, query.get("owner") ?? undefined];
  const list = await get("jobs", { before, owner, limit: PAGE });
  const more = list.length === PAGE;
  return {
    title: "Jobs",
    fixed: before !== undefined,
    node: page("Market", "Jobs",
      owner && el("p", {}, "Of the account ", account(owner), "."),
      jobTable(list, "Jobs, newest first"),
      pager(before && ["Newest", address(["jobs"], { owner })],
        more && ["Older", address(["jobs"], { owner, before: list.at(-1).id })])),
  };
}

export async function job({ args: [id], query }) {
  const before = query.get("before") ?? undefined;
  const [view, history, audits] = await Promise.all([
    get(["jobs", id]), get(["jobs", id, "history"], { before, limit: 50 }), get(["jobs", id, "audits"]),
  ]);
  const closed = view.ended !== null;
  const workers = view.leases.map((lease) => [grouped(lease.rank), lease.id, machineLink(lease.machine), account(lease.owner),
    leaseState(lease.state, view.members.includes(lease.id)), grouped(lease.sequence), grouped(lease.rounds), grouped(lease.samples), duration(lease.paid_ms),
    credits(lease.paid)]);
  const refunded = BigInt(view.budget) - BigInt(view.paid) - BigInt(view.fees) - BigInt(view.escrow);
  const sum = (part) => view.leases.reduce((all, lease) => all + BigInt(lease[part]), 0n);
  const isOpen = audits.some((audit) => audit.closed === null) || sum("held") > 0n;
  return {
    title: `${view.id} ${view.name}`,
    fixed: (closed && !isOpen) || before !== undefined,
    node: page(view.id, view.name,
      el("p", { class: "why" }, state(view.state), " ", jobWhy(view)),
      facts([
        ["Budget", credits(view.budget)],
        ["Paid to lenders", credits(view.paid)],
        ["Held of that", sum("held") > 0n ? credits(sum("held")) : null],
        ["Lost of that", sum("forfeited") > 0n ? credits(sum("forfeited")) : null],
        ["Paid for audits", view.audit_permille > 0 ? credits(view.fees) : null],
        [closed ? "Came back" : "Still in escrow", credits(closed ? refunded : view.escrow)],
        ["Train together", grouped(view.members.length)],
      ], "figures"),
      facts([
        ["Owner", account(view.owner)],
        ["Submitted", moment(view.submitted)],
        ["Started", moment(view.started)],
        ["Ended", moment(view.ended)],
        ["Model", view.result && whole(view.result)],
        ["Last checkpoint", view.checkpoint && [whole(view.checkpoint.state), ` of ${count(view.checkpoint.rounds, "round")}`]],
        ["Workers changed", view.generation > 1 ? count(view.generation - 1, "time") : null],
        ["Workers failed", view.failures > 0 ? grouped(view.failures) : null],
        ["Receipts audited, at least", view.audit_permille > 0 ? permille(view.audit_permille) : null],
      ]),
      section("Workers", table("Workers of this job", [number("Rank"), extra("Lease"), "Machine", extra("Lender"), "State",
        extraNumber("Receipts"), extraNumber("Rounds"), extraNumber("Samples"), number("Paid time"), number("Paid")], workers,
      "No machine works for it yet.")),
      view.audit_permille > 0 || audits.length > 0 ? section("Audits", ...auditTables(audits)) : null,
      section("What happened", table("History of this job, newest first",
        ["Time", extraNumber("Block"), "What", extra("Transaction")],
        history.map((entry) => [moment(entry.time), block(entry.height), jobEvent(entry.event),
          entry.transaction ? transaction(entry.transaction) : el("span", { class: "faint" }, "block's end")]),
        "Nothing yet.")),
      pager(before && ["Newest", address(["job", id])],
        history.length === 50 && ["Older", address(["job", id], { before: place(history.at(-1)) })]),
      el("details", {}, el("summary", {}, "The job's spec"), el("pre", { tabindex: "0" }, view.spec))),
  };
}

/** What other machines computed again, newest first, and how it ended. */
function auditTables(audits) {
  const rows = [...audits].reverse().map((audit) => [audit.id, grouped(audit.rank), grouped(audit.sequence),
    audit.round === null ? el("span", { class: "faint" }, "not opened") : grouped(audit.round + 1), auditState(audit.state), auditors(audit),
    moment(audit.drawn)]);
  return [
    table("Rounds of this job that other machines compute again, newest first", [extra("Audit"), number("Rank"), number("Receipt"),
      extraNumber("Round"), "Verdict", "Computed again by", extra("Drawn")], rows, "No receipt was drawn yet."),
    el("p", { class: "note" }, "What is drawn, and who computes it again, follows from the validators' beacon: nobody chooses it."),
  ];
}

function auditors({ auditors, disputed_step, judgements }) {
  const found = (auditor) => auditor.is_excused ? "excused" : auditor.is_false ? "false" : auditor.finding ?? "computes";
  const list = auditors.map((auditor, at) => [at > 0 ? ", " : "", machineLink(auditor.machine), ` ${found(auditor)}`]);
  const step = disputed_step === null ? null : `; step ${disputed_step} judged by ${count(judgements, "validator")}`;
  return list.length > 0 ? [...list, step] : el("span", { class: "faint" }, "nobody yet");
}

const VERDICTS = { passed: ["equal", "good"], false: ["false", "bad"], silent: ["not shown", "bad"], void: ["no outcome", "plain"] };

/** An audit's verdict, or what it waits for. */
function auditState({ state: name, detail }) {
  return name === "closed" ? badge(...(VERDICTS[detail] ?? [words(detail), "plain"])) : badge(words(name), "wait");
}

/** A reason as a sentence. */
function sentence(reason) {
  return reason.charAt(0).toUpperCase() + reason.slice(1) + ".";
}

const place = ({ height, index }) => `${height}-${index}`;

/** Why a job stands where it does, in the gateway's words, with what they name. */
function jobWhy({ why, reason }) {
  const parts = [sentence(reason)];
  if (why.starts) parts.push(" It may start at ", moment(why.starts), ".");
  if (why.machine) parts.push(" See the machine ", machineLink(why.machine), ".");
  return parts;
}

/** A lease's state; whether it trains with the others or gets ready, where that is known. */
function leaseState(value, trains) {
  const doing = trains ? " trains with the others" : " gets ready";
  return [state(value), value.detail === undefined ? null : ` ${words(value.detail)}`,
    value.state === "active" && trains !== undefined ? doing : null];
}

function jobEvent(event) {
  switch (event.event) {
    case "job": return ["job is ", state(event.state), event.state.detail ? [" ", detail(event.state.detail)] : null];
    case "lease": return [`rank ${event.rank} on `, machineLink(event.machine), " is ", leaseState(event.state)];
    case "members":
      return event.members.length === 0 ? "nobody is left that trains" : ["train together: ", event.members.join(", ")];
    case "receipt":
      return [`receipt ${event.sequence} of rank ${event.rank}: ${count(event.rounds, "round")}, ${duration(event.paid_ms)} for `,
        credits(event.payout)];
    case "audit": return [`${event.audit} of ${event.lease} is `, auditState(event.state)];
    case "posted": return posted(event);
    default: return words(event.event);
  }
}

function posted({ account: id, amount, incoming, cause, purse }) {
  const [name] = typeof cause === "string" ? [cause] : Object.keys(cause);
  return [credits(amount), ` ${words(purse)} credits ${incoming ? "to" : "from"} `, account(id), `: ${words(name)}`];
}

function detail(value) {
  return typeof value === "string" && value.startsWith("blake3:") ? short(value) : words(value);
}

export async function machines({ query }) {
  const [after, owner] = [query.get("after") ?? undefined, query.get("owner") ?? undefined];
  const list = await get("machines", { after, owner, limit: PAGE });
  const rows = list.map((view) => [machineLink(view.id), view.config.name, state(view.state), view.reason,
    view.offer ? grouped(view.offer.resources.cores) : "–", grouped(view.used.cores), permille(view.reliability), credits(view.earned)]);
  return {
    title: "Machines",
    fixed: after !== undefined,
    node: page("Market", "Machines",
      owner && el("p", {}, "Of the account ", account(owner), "."),
      table("Machines", ["Machine", "Name", "State", extra("Why"), extraNumber("Cores on offer"), extraNumber("Cores in use"),
        extraNumber("Reliability"), number("Earned")], rows, "No machine was registered yet."),
      pager(after && ["First", address(["machines"], { owner })],
        list.length === PAGE && ["Next", address(["machines"], { owner, after: list.at(-1).id })])),
  };
}

export async function machine({ args: [id] }) {
  const [view, leases] = await Promise.all([get(["machines", id]), get(["machines", id, "leases"])]);
  const { config, offer, pending } = view;
  return {
    title: config.name,
    node: page("Machine", config.name,
      el("p", { class: "why" }, state(view.state), " ", sentence(view.reason),
        view.why.opens ? [" They begin at ", moment(view.why.opens), "."] : null),
      facts([
        ["Earned", credits(view.earned)],
        ["Held until it vests", credits(view.held)],
        ["Reliability", permille(view.reliability)],
        ["Leases served", grouped(view.leases_finished)],
        ["Leases lost", grouped(view.leases_lost)],
      ], "figures"),
      facts([["Id", whole(view.id)], ["Owner", account(view.owner)], ["Key", whole(view.key)],
        ["Audits of the owner's work", `${grouped(view.audits_passed)} found it right, ${count(view.strikes, "strike")}`],
        ["Computes again", view.auditing]]),
      section("On offer", offer ? facts(offerFacts(offer)) : el("p", { class: "empty" }, "Nothing is offered of it."),
        pending && [el("h3", {}, "As soon as its leases allow"), facts(offerFacts(pending))]),
      section("At work", facts([["In use", resources(view.used)]]),
        table("Leases that it serves now", [number("Rank"), "Job", "Lease", number("Receipts")],
          leases.map((lease) => [grouped(lease.rank), jobLink(lease.job), lease.lease, grouped(lease.sequence)]),
          "It serves no lease now.")),
      section("Measured", facts([
        ["Platform", config.platform],
        ["CPU", config.cpu],
        ["GPU", config.gpu || "none"],
        ["Resources", resources(config.resources)],
        ["Speed of a core", `${grouped(config.speed)} million multiply-adds a second`],
        ["Seen in leases", view.observed_speed > 0 ? `${grouped(view.observed_speed)} million multiply-adds a second` : null],
        ["Trainer", config.trainer],
      ]))),
  };
}

function offerFacts(offer) {
  return [
    ["Resources", resources(offer.resources)],
    ["When", availability(offer.availability)],
    ["Least prices", minimum(offer.minimum)],
    ["At the end of its hours", offer.at_close === "at_once" ? "leases end at once" : "running leases go on to their end"],
  ];
}
