// What was typed into the forms of this view: it stays while one looks elsewhere.
import { newDraft, type Draft } from "./offer/draft";
import type { Measured } from "../../types";

interface Drafts {
  measured: Measured | null;
  here: Draft | null;
  code: { later: boolean; hours: number; offer: Draft };
  ssh: { target: string; identityFile: string; program: string; offer: Draft };
}

export const drafts: Drafts = $state({
  measured: null,
  here: null,
  code: { later: true, hours: 2, offer: newDraft(null) },
  ssh: { target: "", identityFile: "", program: "deepmarket", offer: newDraft(null) },
});
