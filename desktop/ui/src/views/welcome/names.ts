// Names of key files, as Rust accepts them.
export function nameProblem(name: string, taken: string[]): string | null {
  if (name === "") return "Give the account a name";
  if (!/^[A-Za-z0-9._-]{1,40}$/.test(name)) return "Use at most 40 letters, digits, '-', '_' and '.'";
  if (name.startsWith(".")) return "A name can't begin with '.'";
  if (taken.includes(name)) return `There is an account '${name}' on this computer already`;
  return null;
}
