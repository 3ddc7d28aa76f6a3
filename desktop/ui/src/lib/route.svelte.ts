// Where the user is: a view and what is open in it. In the address's hash, so that Alt+Left goes back.
export type View = "dashboard" | "resources" | "jobs" | "account";
export interface Route { view: View; parts: string[] }

const views: View[] = ["dashboard", "resources", "jobs", "account"];

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function read(): Route {
  const [view, ...parts] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  return { view: views.includes(view as View) ? (view as View) : "dashboard", parts };
}

export const route = $state({ now: read() });
addEventListener("hashchange", () => { route.now = read(); });

/** For example `go("jobs", "job-3")`. */
export const href = (view: View, ...parts: string[]): string => "#/" + [view, ...parts].map(encodeURIComponent).join("/");
export const go = (view: View, ...parts: string[]): void => { location.hash = href(view, ...parts); };
