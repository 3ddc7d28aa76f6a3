// Blocks and transactions.

import { get } from "./api.js";
import { address, el, facts, link, page, pager, section, table } from "./dom.js";
import { badge, block as blockLink, count, credits, grouped, moment, short, transaction, whole, words } from "./format.js";

const PAGE = 25;

/** What a block's transactions do, in words: `3 receipts, 1 rejected`. */
function summary({ transactions }) {
  if (transactions.length === 0) return el("span", { class: "faint" }, "no transaction");
  const kinds = new Map();
  for (const { action } of transactions) kinds.set(action, (kinds.get(action) ?? 0) + 1);
  const parts = [...kinds].map(([action, times]) => words(action) + (times > 1 ? ` × ${times}` : ""));
  const rejected = transactions.filter(({ code }) => code !== 0).length;
  return [parts.join(", "), rejected > 0 ? [" ", badge(`${rejected} rejected`, "bad")] : null];
}

/** A table of blocks. */
export function blockTable(blocks, caption) {
  const columns = [{ title: "Height", kind: "number" }, "Time", "What it holds", { title: "Signed by", kind: "number extra" },
    { title: "Hash", kind: "extra" }];
  const rows = blocks.map((block) =>
    [blockLink(block.header.height), moment(block.header.time), summary(block), grouped(block.signers.length), short(block.hash)]);
  return table(caption, columns, rows, "No block was decided yet.");
}

export async function blocks({ query }) {
  const before = query.get("before") ?? undefined;
  const list = await get("blocks", { before, limit: PAGE });
  const last = list.at(-1)?.header.height;
  return {
    title: "Blocks",
    fixed: before !== undefined,
    node: page("Chain", "Blocks",
      blockTable(list, "Blocks, newest first"),
      pager(before && ["Newest", address(["blocks"])], last > 1 && ["Older", address(["blocks"], { before: last })])),
  };
}

export async function block({ args: [height] }) {
  const [view, status] = await Promise.all([get(["blocks", height]), get("status")]);
  const { header } = view;
  const rows = view.transactions.map(({ id, action, code, message }, index) =>
    [grouped(index), transaction(id), words(action), result(code, message)]);
  return {
    title: `Block ${grouped(header.height)}`,
    fixed: header.height < status.height,
    node: page("Block", grouped(header.height),
      facts([
        ["Time", moment(header.time)],
        ["Hash", whole(view.hash)],
        ["Parent", header.height > 1 ? link(["block", header.height - 1], whole(header.parent)) : whole(header.parent)],
        ["State before it", whole(header.state_root)],
        ["Proposed by", whole(header.proposer)],
        ["Decided in round", grouped(view.round)],
        ["Signed by", [`${view.signers.length} of ${count(status.validators, "validator")}`,
          el("ul", { class: "plain" }, view.signers.map((key) => el("li", {}, whole(key))))]],
      ]),
      section("Transactions",
        table("Transactions of this block", [{ title: "#", kind: "number" }, "Transaction", "Action", "Result"], rows,
          "This block holds no transaction: it keeps the clock.")),
      pager(header.height > 1 && ["Previous block", address(["block", header.height - 1])],
        header.height < status.height && ["Next block", address(["block", header.height + 1])])),
  };
}

function result(code, message) {
  return code === 0 ? badge("done", "good") : [badge(`rejected ${code}`, "bad"), " ", message];
}

/** Actions that machines and validators sign; all others are signed with the key of an account. */
const OF_MACHINES = new Set([
  "heartbeat", "receipt", "join", "price", "disclose", "commit", "reveal", "trace", "judge",
]);

export async function tx({ args: [id] }) {
  const view = await get(["transactions", id]);
  const body = view.transaction?.body;
  const [name, content] = body ? action(body.action) : [null, null];
  const waits = view.height === null;
  return {
    title: "Transaction",
    fixed: !waits,
    node: page("Transaction", name ? words(name) : "Waiting",
      facts([
        ["Id", whole(view.id)],
        ["Result", waits ? badge("waits for a block", "wait") : result(view.code, view.message)],
        ["Block", waits ? null : [blockLink(view.height), `, number ${view.index}`]],
        ["Signed by", body && (OF_MACHINES.has(name) ? whole(body.signer) : link(["key", body.signer], whole(body.signer)))],
        ["Number of the signer", body && grouped(body.nonce)],
        ["Void after block", body && grouped(body.expires)],
        ["Signature", view.transaction && whole(view.transaction.signature)],
      ]),
      body && section("What it says", ...said(content))),
  };
}

/** Name and content of an action: `{ name: content }`, or the name alone. */
function action(value) {
  return typeof value === "string" ? [value, {}] : Object.entries(value)[0];
}

/** An action's content: amounts as credits, long lists of bytes by their length, the rest as it is written. */
function said(content) {
  if (Object.keys(content).length === 0) return [el("p", { class: "empty" }, "Nothing more.")];
  const bytes = (value) => Array.isArray(value) && value.length > 16 && value.every((part) => typeof part === "number");
  const text = JSON.stringify(content, (_, value) => {
    if (typeof value === "bigint") return String(value);
    return bytes(value) ? `${value.length} bytes` : value;
  }, 2);
  const amount = content.amount === undefined ? null : facts([["Amount in credits", credits(content.amount)]]);
  return [amount, el("pre", { tabindex: "0" }, text)].filter(Boolean);
}
