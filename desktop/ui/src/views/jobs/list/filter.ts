// Which jobs the list shows.
import type { Job } from "../../../types";

export type Which = "all" | "open" | "closed";

export const isOpen = (job: Job): boolean => ["queued", "matched", "running", "recovering"].includes(job.state);

export function chosen(jobs: Job[], which: Which, search: string): Job[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return jobs.filter((job) => {
    if (which !== "all" && isOpen(job) !== (which === "open")) return false;
    const text = `${job.name} ${job.id} ${job.state} ${job.status}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}
