import type { Answers } from ".";

export const jobCommands: Answers = {};
