import { expect, test } from "vitest";
import { afterTab, lineAt } from "../src/views/jobs/new/lines";

test("a problem's line is found in the text", () => {
  const text = "a = 1\n\nccc = 3";
  expect([1, 2, 3].map((line) => text.slice(...lineAt(text, line)))).toEqual(["a = 1", "", "ccc = 3"]);
  expect(lineAt(text, 99)).toEqual(lineAt(text, 3));
});

test("Tab takes the selection's place", () => {
  expect(afterTab("abcd", 1, 3)).toEqual(["a  d", 3]);
});
