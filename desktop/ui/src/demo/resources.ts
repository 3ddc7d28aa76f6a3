import type { Answers } from ".";

export const answers: Answers = {};
