use std::collections::BTreeMap;

use deepmarket_types::{Event, LeaseId, LeaseState};
use deepmarket_wallet::words;

/// What the chain tells of a job's workers, in sentences: who got ready, joined, left or was lost, and who goes on. Takes events in
/// the chain's order.
#[derive(Default)]
pub struct Story {
    ranks: BTreeMap<LeaseId, u32>,
    members: Vec<LeaseId>,
    /// Why members ended that are members yet, until the chain says who goes on.
    ended: BTreeMap<LeaseId, LeaseState>,
    began: bool,
}

impl Story {
    /// What an event says; nothing for one that is told together with a later one, or that isn't about workers.
    pub fn tell(&mut self, event: &Event) -> Vec<String> {
        match event {
            Event::Lease { lease, rank, machine, state, .. } => {
                self.ranks.insert(*lease, *rank);
                match state {
                    LeaseState::Active => vec![format!("worker {rank} gets ready, on {machine}")],
                    ended if self.members.contains(lease) => {
                        self.ended.insert(*lease, *ended);
                        vec![]
                    }
                    ended => vec![format!("worker {rank} {}", self.of_stranger(*lease, ended))],
                }
            }
            Event::Members { members, .. } => self.change(members.clone()),
            _ => vec![],
        }
    }

    /// The workers that train now, by rank.
    pub fn training(&self) -> Vec<u32> {
        self.members.iter().map(|lease| self.rank(*lease)).collect()
    }

    /// Of a worker that ended and didn't train at that time.
    fn of_stranger(&self, lease: LeaseId, state: &LeaseState) -> String {
        match state {
            // Told when it left those that train.
            LeaseState::Finished => "reported the model".into(),
            _ if self.ended.contains_key(&lease) => words::lease_state(state),
            _ => format!("{}; it was not training", words::lease_state(state)),
        }
    }

    fn change(&mut self, members: Vec<LeaseId>) -> Vec<String> {
        let before = std::mem::replace(&mut self.members, members);
        let gone: Vec<LeaseId> = before.iter().filter(|lease| !self.members.contains(lease)).copied().collect();
        let new: Vec<u32> = self.members.iter().filter(|l| !before.contains(l)).map(|lease| self.rank(*lease)).collect();
        let count = self.members.len();
        // Those that finish leave one by one, and where the job ends all leave: nobody goes on without them.
        let in_peace = gone.iter().all(|lease| match self.ended.get(lease) {
            Some(LeaseState::Finished) => true,
            Some(LeaseState::Ended) => count == 0,
            _ => false,
        });
        let mut told: Vec<String> = gone.iter().map(|lease| self.why_gone(*lease)).collect();
        if !new.is_empty() {
            told.push(match (before.is_empty(), self.began) {
                (true, false) => format!("{} to train", verb(&new, "begins", "begin")),
                (true, true) => format!("{} up the job's last checkpoint", verb(&new, "takes", "take")),
                (false, _) => format!("{}: {count} train", verb(&new, "joins", "join")),
            });
        }
        let goes_on = match (told.pop(), in_peace) {
            (last, true) => last,
            (Some(last), false) if new.is_empty() => Some(match count {
                0 => format!("{last}; nobody is left: the job waits for machines"),
                1 => format!("{last}; worker {} goes on alone", self.rank(self.members[0])),
                _ => format!("{last}; {count} go on"),
            }),
            (last, false) => last,
        };
        told.extend(goes_on);
        self.began |= count > 0;
        told
    }

    fn why_gone(&self, lease: LeaseId) -> String {
        let rank = self.rank(lease);
        match self.ended.get(&lease) {
            Some(LeaseState::Finished) => format!("worker {rank} has done all rounds"),
            Some(LeaseState::Failed(reason)) if reason.is_preemption() => format!("worker {rank} leaves: {reason}"),
            Some(LeaseState::Failed(reason)) => format!("worker {rank} failed: {reason}"),
            Some(LeaseState::Lost) => format!("worker {rank} is lost"),
            Some(LeaseState::Ended) => format!("worker {rank} stops"),
            Some(LeaseState::Active) | None => format!("worker {rank} trains no more"),
        }
    }

    fn rank(&self, lease: LeaseId) -> u32 {
        self.ranks.get(&lease).copied().unwrap_or_default()
    }
}

/// `worker 1 joins`, `workers 1 and 2 join`.
fn verb(ranks: &[u32], one: &str, many: &str) -> String {
    match ranks {
        [] => format!("nobody {one}"),
        [rank] => format!("worker {rank} {one}"),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(u32::to_string).collect();
            format!("workers {} and {last} {many}", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{FailureReason, JobId, MachineId, SecretKey};

    use super::*;

    const JOB: JobId = JobId(3);

    fn lease(rank: u32, state: LeaseState) -> Event {
        let machine = MachineId::from_key(&SecretKey::from_seed([rank as u8; 32]).public());
        Event::Lease { lease: LeaseId(10 + u64::from(rank)), job: JOB, rank, machine, state }
    }

    fn members(generation: u32, ranks: &[u32]) -> Event {
        Event::Members { job: JOB, generation, members: ranks.iter().map(|rank| LeaseId(10 + u64::from(*rank))).collect() }
    }

    fn told(events: &[Event]) -> Vec<String> {
        let mut story = Story::default();
        let told = events.iter().flat_map(|event| story.tell(event));
        told.filter(|line| !line.contains("gets ready")).collect()
    }

    #[test]
    fn a_job_that_loses_workers_one_after_the_other_and_then_all_tells_who_goes_on() {
        use LeaseState::{Active, Failed, Lost};
        let lines = told(&[
            lease(0, Active),
            lease(1, Active),
            lease(2, Active),
            members(1, &[0, 1, 2]),
            lease(2, Lost),
            members(2, &[0, 1]),
            lease(3, Active),
            members(3, &[0, 1, 3]),
            lease(0, Failed(FailureReason::OutOfMemory)),
            lease(1, Lost),
            members(4, &[3]),
            lease(3, Lost),
            members(5, &[]),
            lease(4, Active),
            lease(5, Active),
            members(6, &[4, 5]),
        ]);
        let expected = [
            "workers 0, 1 and 2 begin to train".to_owned(),
            "worker 2 is lost; 2 go on".into(),
            "worker 3 joins: 3 train".into(),
            format!("worker 0 failed: {}", FailureReason::OutOfMemory),
            "worker 1 is lost; worker 3 goes on alone".into(),
            "worker 3 is lost; nobody is left: the job waits for machines".into(),
            "workers 4 and 5 take up the job's last checkpoint".into(),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn workers_that_finish_and_those_that_never_trained_are_told_as_such() {
        use LeaseState::{Active, Ended, Finished};
        let lines =
            told(&[lease(0, Active), members(1, &[0]), lease(1, Active), lease(0, Finished), members(2, &[]), lease(1, Ended)]);
        assert_eq!(lines[..2], ["worker 0 begins to train", "worker 0 has done all rounds"]);
        assert!(lines[2].starts_with("worker 1 ") && lines[2].ends_with("it was not training"), "{lines:?}");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn one_that_joins_in_the_block_in_which_another_is_lost_is_told_after_it() {
        use LeaseState::{Active, Lost};
        let mut story = Story::default();
        for event in [lease(0, Active), lease(1, Active), members(1, &[0, 1]), lease(2, Active), lease(1, Lost)] {
            story.tell(&event);
        }
        assert_eq!(story.tell(&members(2, &[0, 2])), ["worker 1 is lost", "worker 2 joins: 2 train"]);
        assert_eq!(story.training(), [0, 2]);
    }
}
