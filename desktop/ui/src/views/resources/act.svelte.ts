// One command at a time behind a row of buttons: which one is busy, and what went wrong with the last.
import { untrack } from "svelte";
import { asError, told } from "../../lib/live.svelte";

export class Act {
  busy = $state<string | null>(null);
  error = $state<unknown>(null);

  #online = $derived(told.connection?.online ?? true);

  constructor() {
    // What failed for want of a connection is no news once there is one again.
    $effect(() => { if (this.#online) untrack(() => { if (this.error && asError(this.error).retryable) this.error = null; }); });
  }

  /** Runs it; true where it went well. */
  async run(name: string, command: () => Promise<unknown>): Promise<boolean> {
    if (this.busy !== null) return false;
    this.busy = name;
    this.error = null;
    try {
      await command();
      return true;
    } catch (reason) {
      this.error = reason;
      return false;
    } finally {
      this.busy = null;
    }
  }
}
