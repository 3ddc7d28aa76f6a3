// Reads the gateway's REST interface. Numbers that a script's own numbers can't hold exactly come as BigInt.

/** The gateway refused, or nobody answered. */
export class Problem extends Error {
  constructor(message, hint, status) {
    super(message);
    this.hint = hint;
    this.status = status;
  }
}

/** Parses JSON without losing a digit of a whole number, where the browser tells what was written. */
function parse(text) {
  return JSON.parse(text, (_, value, context) => {
    if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
    const written = context?.source ?? "";
    return /^-?\d+$/.test(written) ? BigInt(written) : value;
  });
}

/** What `GET v1/…` answers. Parts of the path and parameters are encoded here. */
export async function get(parts, parameters = {}) {
  const path = [].concat(parts).map(encodeURIComponent).join("/");
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== null);
  const query = new URLSearchParams(given).toString();
  let response, text;
  try {
    response = await fetch(`v1/${path}${query && "?" + query}`, { signal: AbortSignal.timeout(20_000), cache: "no-store" });
    text = await response.text();
  } catch {
    throw new Problem("The gateway doesn't answer.", "It may be restarting. Try again in a moment.", 0);
  }
  let body;
  try {
    body = parse(text);
  } catch {
    throw new Problem("The gateway's answer can't be read.", "Is something else between it and this page?", response.status);
  }
  if (!response.ok) throw new Problem(body?.message ?? `The gateway answers ${response.status}.`, body?.hint ?? "", response.status);
  return body;
}

/** Like `get`, and nothing where the gateway doesn't know it. */
export async function known(parts) {
  try {
    return await get(parts);
  } catch (problem) {
    if (problem.status === 404 || problem.status === 400) return null;
    throw problem;
  }
}

/** Tells every new block, and whether the stream is open; goes on after interruptions. */
export function follow(onBlock, onState) {
  const stream = new EventSource("v1/events");
  stream.addEventListener("open", () => onState("live"));
  stream.addEventListener("block", (event) => onBlock(parse(event.data)));
  stream.addEventListener("error", () => {
    onState("lost");
    // The browser connects again by itself, but not after a refusal.
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => follow(onBlock, onState), 5_000);
  });
}
