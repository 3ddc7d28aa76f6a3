//! Who trains a job together. The chain is the membership service: workers don't have to agree among themselves who is there.
//!
//! ```text
//!   lease begins ──► first receipt: ready ──► block's end: member ──► finished | failed | lost | ended
//! ```

use deepmarket_types::{Event, JobId, JobState, LeaseId, LeaseState};

use crate::{Job, Lease, Ledger, change::Change};

/// How many receipt intervals the first ready worker waits for others that are still loading, where nobody trains yet.
const PATIENCE_INTERVALS: u64 = 4;

impl Ledger {
    /// The member that has to go by the words of the others' last receipts:
    ///
    /// - one that more than half of all members name;
    /// - where every member names another one, and nobody can train: the one that most of them name, the last in order of several.
    ///
    /// So one worker alone can't throw out another one, unless that one says of somebody that it can't work with them either.
    fn outvoted(&self, job: &Job) -> Option<LeaseId> {
        let named: Vec<LeaseId> = job.members.iter().filter_map(|id| self.leases[id].missing).collect();
        let votes = |member: &LeaseId| named.iter().filter(|id| *id == member).count();
        // Of several with equally many `max_by_key` gives the last one.
        let most_named = *job.members.iter().max_by_key(|member| votes(member))?;
        let of_members = job.members.iter().map(votes).sum::<usize>();
        let is_named = votes(&most_named) > 0;
        let goes = 2 * votes(&most_named) > job.members.len() || of_members == job.members.len();
        (is_named && goes).then_some(most_named)
    }

    /// Leases of a job that become members now: those that are ready, if there are members, if nobody else is still loading, or
    /// if the first of them has waited long enough. None once a member has done all rounds: there is nothing left to do.
    fn joining(&self, job: &Job) -> Vec<LeaseId> {
        let newcomers: Vec<&Lease> = self.newcomers(job).collect();
        let all_are_here = job.members.len() + newcomers.len() == job.active.len();
        let patience_ms = PATIENCE_INTERVALS * self.params().receipt_ms;
        let first = newcomers.iter().filter_map(|lease| lease.ready).min();
        let waited = first.is_some_and(|ready| self.time().since(ready) >= patience_ms);
        match job.finished.is_none() && (!job.members.is_empty() || all_are_here || waited) {
            true => newcomers.iter().map(|lease| lease.id).collect(),
            false => Vec::new(),
        }
    }
}

impl Change<'_> {
    /// Draws the consequences of the end of some leases for their job: it is finished if the last member that had not done all
    /// rounds is gone; without members it recovers, and without leases it waits for machines.
    pub fn after_loss(&mut self, id: JobId) {
        let job = &self.ledger.jobs[&id];
        if !job.members.is_empty() {
            return;
        }
        match (job.state, job.finished) {
            (_, Some(last)) => {
                self.observe_speeds(id);
                self.close_job(id, JobState::Finished(last.model));
            }
            (JobState::Running, None) => self.set_job_state(id, JobState::Recovering),
            (JobState::Matched, None) if job.active.is_empty() => self.set_job_state(id, JobState::Queued),
            _ => {}
        }
    }

    /// At the block's end: members that the others name are lost, until nobody is named by enough of those that are left.
    pub fn drop_outvoted(&mut self) {
        while let Some(id) = self.accused.pop_first() {
            while let Some(lease) = self.ledger.outvoted(&self.ledger.jobs[&id]) {
                self.end_lease(lease, LeaseState::Lost);
                self.after_loss(id);
            }
            self.accused.remove(&id);
        }
    }

    /// At the block's end: workers that got ready begin to train with the others. A job's first ones set it running.
    pub fn let_join(&mut self) {
        let jobs: Vec<JobId> = self.ledger.index.joining.iter().copied().collect();
        let now = self.now();
        for id in jobs {
            let newcomers = self.ledger.joining(&self.ledger.jobs[&id]);
            if newcomers.is_empty() {
                continue;
            }
            for &lease in &newcomers {
                let lease = self.lease(lease);
                // What it said of others before is no member's word.
                (lease.joined, lease.missing) = (Some(now), None);
            }
            self.job(id).members.extend(newcomers);
            self.regrouped.insert(id);
            match self.ledger.jobs[&id].state {
                JobState::Running => self.ledger.index_job(id),
                _ => self.set_job_state(id, JobState::Running),
            }
        }
    }

    /// At the block's end: tells of each job whose members changed who they are now.
    pub fn tell_members(&mut self) {
        while let Some(id) = self.regrouped.pop_first() {
            let job = self.job(id);
            job.generation += 1;
            let event = Event::Members { job: id, generation: job.generation, members: job.members.clone() };
            self.events.push(event);
        }
    }
}
