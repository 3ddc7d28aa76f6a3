// Places in the text of the editor.

/** Where a line (from 1) begins and ends. */
export function lineAt(text: string, line: number): [number, number] {
  const lines = text.split("\n");
  const at = Math.min(Math.max(line, 1), lines.length) - 1;
  const from = lines.slice(0, at).reduce((sum, one) => sum + one.length + 1, 0);
  return [from, from + lines[at]!.length];
}

/** The text and the caret after two spaces took the selection's place. */
export function afterTab(text: string, from: number, to: number): [string, number] {
  return [text.slice(0, from) + "  " + text.slice(to), from + 2];
}
