//! What is worth a notification: a job ended, a machine panics, credits arrived. Many small payouts make one notice a minute.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use deepmarket_types::{AccountId, Credits, Event, JobId, JobState, MachineId, MachineState, Posting};

use crate::view::{Notice, Tone};

/// The least time between two notices of payouts.
const PAYOUTS: Duration = Duration::from_secs(60);

/// Decides, for one account.
pub struct Notices {
    account: AccountId,
    /// Names of the account's jobs and machines, as far as they are known.
    pub jobs: BTreeMap<JobId, String>,
    pub machines: BTreeMap<MachineId, String>,
    /// Payouts that were not told yet.
    waiting: Credits,
    told: Option<Instant>,
}

impl Notices {
    pub fn of(account: AccountId) -> Notices {
        Notices { account, jobs: BTreeMap::new(), machines: BTreeMap::new(), waiting: Credits::ZERO, told: None }
    }

    /// What an event is worth.
    pub fn hear(&mut self, event: &Event) -> Option<Notice> {
        match event {
            Event::Job { job, owner, state } if *owner == self.account => self.job(*job, state),
            Event::Machine { machine, owner, state: MachineState::Panic } if *owner == self.account => {
                let name = self.machines.get(machine).cloned().unwrap_or_else(|| machine.to_string());
                Some(notice(Tone::Bad, format!("{name} lost contact"), "The market hears nothing of it any more."))
            }
            Event::Posted { account, incoming: true, amount, cause, .. } if *account == self.account => match cause {
                Posting::StartingCredits => Some(arrived(*amount, "Starting credits, for jobs.")),
                Posting::TransferFrom(who) => Some(arrived(*amount, format!("Sent by {who}."))),
                Posting::Payout { .. } | Posting::Audit(_) => {
                    self.waiting = self.waiting.checked_add(*amount).unwrap_or(self.waiting);
                    None
                }
                Posting::Forfeit(_) => Some(arrived(*amount, "Your part of what false work lost.")),
                Posting::Refund(_) | Posting::TransferTo(_) | Posting::Escrow(_) => None,
            },
            _ => None,
        }
    }

    /// Payouts that came since the last time, where it is time to tell.
    pub fn payouts(&mut self, now: Instant) -> Option<Notice> {
        let early = self.told.is_some_and(|told| now.duration_since(told) < PAYOUTS);
        if early || self.waiting.is_zero() {
            return None;
        }
        self.told = Some(now);
        Some(arrived(std::mem::take(&mut self.waiting), "Earned by your machines."))
    }

    fn job(&self, job: JobId, state: &JobState) -> Option<Notice> {
        let name = self.jobs.get(&job).map_or_else(|| job.to_string(), |name| format!("{name} ({job})"));
        match state {
            JobState::Finished(_) => Some(notice(Tone::Good, format!("{name} is finished"), "Its result is ready.")),
            JobState::Cancelled => Some(notice(Tone::Info, format!("{name} is cancelled"), "What was not used came back.")),
            JobState::Panic(reason) => Some(notice(Tone::Bad, format!("{name} was aborted"), reason.to_string())),
            _ => None,
        }
    }
}

pub fn notice(tone: Tone, title: impl Into<String>, text: impl Into<String>) -> Notice {
    Notice { tone, title: title.into(), text: text.into() }
}

fn arrived(amount: Credits, text: impl Into<String>) -> Notice {
    notice(Tone::Good, format!("{amount} credits arrived"), text)
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{Hash, LeaseId, PanicReason, Purse};

    use super::*;

    const ME: AccountId = AccountId([1; 20]);

    fn posted(account: AccountId, incoming: bool, cause: Posting) -> Event {
        let amount = Credits::from_micro(1_500_000);
        Event::Posted { account, purse: Purse::Earned, amount, balance: amount, incoming, cause }
    }

    fn payout() -> Event {
        posted(ME, true, Posting::Payout { job: JobId(1), lease: LeaseId(1), machine: MachineId([2; 20]), sequence: 1 })
    }

    #[test]
    fn payouts_are_told_once_a_minute_all_together() {
        let (mut notices, begin) = (Notices::of(ME), Instant::now());
        assert!(notices.payouts(begin).is_none());
        assert!(notices.hear(&payout()).is_none());
        assert_eq!(notices.payouts(begin).unwrap().title, "1.5 credits arrived");
        notices.hear(&payout());
        notices.hear(&payout());
        assert!(notices.payouts(begin + Duration::from_secs(59)).is_none());
        assert_eq!(notices.payouts(begin + Duration::from_secs(60)).unwrap().title, "3 credits arrived");
        assert!(notices.payouts(begin + Duration::from_secs(200)).is_none());
    }

    #[test]
    fn what_concerns_others_or_only_comes_back_is_no_notice() {
        let mut notices = Notices::of(ME);
        for event in [
            posted(AccountId([9; 20]), true, Posting::TransferFrom(ME)),
            posted(ME, false, Posting::TransferTo(AccountId([9; 20]))),
            posted(ME, true, Posting::Refund(JobId(1))),
            Event::Job { job: JobId(1), owner: ME, state: JobState::Running },
            Event::Job { job: JobId(1), owner: AccountId([9; 20]), state: JobState::Cancelled },
            Event::Machine { machine: MachineId([2; 20]), owner: ME, state: MachineState::Idle },
        ] {
            assert!(notices.hear(&event).is_none(), "{event:?}");
        }
        assert!(notices.payouts(Instant::now()).is_none());
    }

    #[test]
    fn the_end_of_a_job_is_told_with_its_name_and_reason() {
        let mut notices = Notices::of(ME);
        let ended = |state| Event::Job { job: JobId(3), owner: ME, state };
        assert_eq!(notices.hear(&ended(JobState::Finished(Hash::default()))).unwrap().title, "job-3 is finished");
        notices.jobs.insert(JobId(3), "mnist".into());
        let aborted = notices.hear(&ended(JobState::Panic(PanicReason::Budget))).unwrap();
        assert_eq!((aborted.title.as_str(), aborted.tone), ("mnist (job-3) was aborted", Tone::Bad));
        assert!(aborted.text.contains("larger budget"));
        let lost = Event::Machine { machine: MachineId([2; 20]), owner: ME, state: MachineState::Panic };
        notices.machines.insert(MachineId([2; 20]), "lab7".into());
        assert_eq!(notices.hear(&lost).unwrap().title, "lab7 lost contact");
    }
}
