// The browser demo mode (`npm run demo`): the page with recorded data in place of Rust, for looking at states.
// `?state=` picks one: `full` (default), `empty`, `loading`, `error`, `long`, `offline`, `first` (no account), `locked`.
import { mockIPC } from "@tauri-apps/api/mocks";
import type { CommandError } from "../types";
import * as account from "./account";
import * as dashboard from "./dashboard";
import * as jobs from "./jobs";
import * as resources from "./resources";
import * as welcome from "./welcome";

export type State = "full" | "empty" | "loading" | "error" | "long" | "offline" | "first" | "locked";
/** What a command answers; it may take its time, and throws a `CommandError` to fail. */
export type Answers = Record<string, (args: any, state: State) => unknown>;

const state = (new URLSearchParams(location.search).get("state") ?? "full") as State;
export const failure: CommandError = { code: 5001, message: "the gateway at http://127.0.0.1:8600 doesn't answer", hint: "is the market running? `deepmarket up` starts a local one", retryable: true };

const answers: Answers = { ...welcome.answers, ...dashboard.answers, ...resources.answers, ...jobs.answers, ...account.answers };

export async function install(): Promise<void> {
  mockIPC((command, args) => {
    const answer = answers[command];
    if (!answer) throw { ...failure, message: `the demo has no answer for ${command}`, hint: "" };
    return answer(args, state) as never;
  });
}

/** Sends messages down a channel that the page gave. */
export function send<T>(channel: any, ...messages: T[]): void {
  for (const message of messages) channel.onmessage(message);
}
export const never = (): Promise<never> => new Promise(() => {});
