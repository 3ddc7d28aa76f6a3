use deepmarket_types::{JobReason, JobState, MachineReason};

use crate::{Job, Ledger, Machine, matching::Seats};

impl Ledger {
    /// Why a machine stands where it does.
    pub fn machine_reason(&self, machine: &Machine) -> MachineReason {
        machine.reason(&self.params().slots, self.time())
    }

    /// Why a job stands where it does; for one that waits: what for.
    pub fn job_reason(&self, job: &Job) -> JobReason {
        match job.state {
            JobState::Queued => self.waits_for(job),
            JobState::Matched => JobReason::Preparing,
            JobState::Running => {
                let workers = job.members.len() as u32;
                JobReason::Training { workers, preparing: job.active.len() as u32 - workers }
            }
            JobState::Recovering if job.is_waiting() => match self.waits_for(job) {
                other @ (JobReason::WaitsForSlot { .. } | JobReason::WaitsForLowerPrices { .. }) => other,
                _ => JobReason::Recovering { preparing: 0 },
            },
            JobState::Recovering => JobReason::Recovering { preparing: job.active.len() as u32 },
            JobState::Finished(_) => JobReason::Finished,
            JobState::Cancelled => JobReason::Cancelled,
            JobState::Panic(why) => {
                let machine = job.blamed.map(|lease| self.leases[&lease].machine);
                JobReason::Aborted { why, lease: job.blamed, machine }
            }
        }
    }

    /// In the order in which matching asks: slot, budget, machines.
    fn waits_for(&self, job: &Job) -> JobReason {
        let (now, clock) = (self.time(), self.params().slots);
        let (_, slot) = clock.slot_at(now);
        if !job.may_start_in(slot) {
            let starts = clock.next_slot(now, |slot| job.may_start_in(slot)).unwrap_or(now);
            return JobReason::WaitsForSlot { starts };
        }
        if self.affordable_workers(job, now) < job.min_workers {
            let needed = self.interval_cost(
                &self.unit_prices_at(now),
                &job.demand,
                job.min_workers,
                self.fee_permille(job.audit_permille),
            );
            return JobReason::WaitsForLowerPrices { needed };
        }
        let seats = Seats { least: job.min_workers, most: job.min_workers, share_machine: job.share_machine };
        let free = self.pick(&job.demand, seats).len() as u32;
        match free < job.min_workers {
            true => JobReason::WaitsForMachines { free, needed: job.min_workers },
            false => JobReason::Next,
        }
    }
}
