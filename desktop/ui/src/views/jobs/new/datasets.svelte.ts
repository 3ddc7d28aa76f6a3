// The datasets that were imported on this computer.
import { asError } from "../../../lib/live.svelte";
import * as rust from "../../../rust";
import type { CommandError, Dataset } from "../../../types";

export const datasets = $state({ known: null as Dataset[] | null, error: null as CommandError | null });

export async function loadDatasets(): Promise<void> {
  try {
    [datasets.known, datasets.error] = [await rust.datasets(), null];
  } catch (error) {
    datasets.error = asError(error);
  }
}
