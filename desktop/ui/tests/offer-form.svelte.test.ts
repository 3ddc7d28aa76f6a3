import { expect, test } from "vitest";
import { flushSync, mount, unmount } from "svelte";
import OfferForm from "../src/views/resources/offer/OfferForm.svelte";
import { newDraft } from "../src/views/resources/offer/draft";

test("sizes are typed in GiB and kept in MiB; what is typed isn't rewritten on the way", async () => {
  const limits = { cores: 8, gpus: 0, ram_mib: 16_384, disk_mib: 100_000 };
  const draft = $state(newDraft(limits));
  const shown = mount(OfferForm, { target: document.body, props: { draft, limits, problems: null } });
  flushSync();
  const field = (label: string): HTMLInputElement => {
    const of = [...document.querySelectorAll("label")].find((one) => one.textContent === label)!;
    return document.getElementById(of.htmlFor) as HTMLInputElement;
  };
  const ram = field("RAM in GiB");
  expect(ram.value).toBe("8");
  for (const text of ["1", "1.", "1.5"]) {
    ram.value = text;
    ram.dispatchEvent(new Event("input", { bubbles: true }));
    flushSync();
    expect(ram.value).toBe(text);
  }
  expect(document.querySelector("input[type=range][aria-label='RAM in GiB, slider']")?.getAttribute("aria-valuetext")).toBe("1.5 GiB");
  expect(field("CPU cores").value).toBe("4");
  expect([...document.querySelectorAll("label")].some((label) => label.textContent === "GPUs")).toBe(false);
  await unmount(shown);
});
