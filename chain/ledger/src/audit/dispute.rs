//! A dispute: both sides show their steps, and validators compute the first one on which they disagree.

use deepmarket_types::{AuditId, AuditState, AuditVerdict, Hash, MachineId, PublicKey, RoundTrace, steps_root};

use super::{Audit, deadlines::auditor};
use crate::{Ledger, Rejection, change::Change};

/// Whose steps are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Worker,
    Auditor,
}

/// The first step on which two disagree: where the hashes differ, or where one of them ends. None where all steps are the same.
pub(super) fn first_difference(one: &[Hash], other: &[Hash]) -> Option<u32> {
    let differs = |step: &usize| one.get(*step) != other.get(*step);
    (0..one.len().max(other.len())).find(differs).map(|step| step as u32)
}

/// More than two thirds.
fn quorum(validators: usize) -> usize {
    2 * validators / 3 + 1
}

/// What the validators' words make of a dispute.
enum Judged {
    NotYet,
    Verdict(AuditVerdict),
}

impl Audit {
    /// The hash after the disputed step, by the worker and by its accuser; none where that one's steps end before it.
    pub fn disputed_hashes(&self) -> Option<(Option<Hash>, Option<Hash>)> {
        let step = self.disputed_step? as usize;
        let (worker, (auditor, _)) = (self.worker_trace.as_ref()?, self.auditor_trace.as_ref()?);
        Some((worker.steps.get(step).copied(), auditor.steps.get(step).copied()))
    }

    /// The hash of the state before the disputed step, on which both agree; none for the first one, whose state is the round's
    /// evidence.
    pub fn before_dispute(&self) -> Option<Hash> {
        let step = self.disputed_step?.checked_sub(1)?;
        self.worker_trace.as_ref()?.steps.get(step as usize).copied()
    }

    /// Would the worker be right if its accusers are wrong: does somebody agree with it, and nobody else contradict it?
    fn is_undoubted(&self) -> bool {
        let accusation = self.accusation();
        let others =
            || self.counting().filter_map(|auditor| auditor.outcome).filter(|outcome| Some(outcome.answer()) != accusation);
        others().any(|outcome| self.is_committed(&outcome)) && others().all(|outcome| self.is_committed(&outcome))
    }

    fn judged(&self, validators: usize) -> Judged {
        let quorum = quorum(validators);
        let said = |word: Option<Hash>| self.judgements.values().filter(|said| **said == word).count();
        let agreed = self.judgements.values().find(|word| said(**word) >= quorum);
        let (worker, auditor) = self.disputed_hashes().unwrap_or_default();
        match agreed {
            Some(Some(step)) if Some(*step) == worker => Judged::Verdict(AuditVerdict::Passed),
            Some(Some(step)) if Some(*step) == auditor => Judged::Verdict(AuditVerdict::False),
            // Neither is right, or the accuser's state can't be computed on: then two of them together could ruin an honest worker.
            Some(_) => Judged::Verdict(AuditVerdict::Void),
            // Nothing can become of it any more: the majority of the auditors stands.
            None if self.judgements.len() == validators => Judged::Verdict(AuditVerdict::False),
            None => Judged::NotYet,
        }
    }
}

impl Ledger {
    /// `Trace`: the audit exists and steps are shown; the signer is the worker's machine, or the accuser's; it has its turn, the
    /// worker first; the steps are those of its answer; where they differ from the worker's after the first one, the accuser hands over
    /// the state before that.
    pub(crate) fn check_trace(
        &self,
        signer: &PublicKey,
        id: AuditId,
        trace: &RoundTrace,
        state: &Option<Hash>,
    ) -> Result<Side, Rejection> {
        let audit = self.check_audit(id, AuditState::Tracing)?;
        let machine = MachineId::from_key(signer);
        let accuser = audit.accuser().filter(|accuser| accuser.machine == machine);
        let bad = |problem| Err(Rejection::BadTrace { audit: id, problem });
        let is_whole = steps_root(&trace.steps) == trace.outcome.steps;
        match (machine == audit.machine, accuser, &audit.worker_trace) {
            (false, None, _) => Err(Rejection::NotAuditParty(id)),
            (true, _, Some(_)) => Err(Rejection::AlreadySaid(id)),
            (false, Some(_), None) => Err(Rejection::AuditElsewhere { audit: id, state: audit.state }),
            _ if !is_whole => bad("the steps aren't those of the outcome"),
            (true, _, None) => match audit.is_committed(&trace.outcome) {
                true => Ok(Side::Worker),
                false => bad("the outcome isn't what the worker committed to"),
            },
            (false, Some(accuser), Some(worker)) => {
                if accuser.outcome != Some(trace.outcome) {
                    return bad("the outcome isn't the one that was shown");
                }
                match first_difference(&worker.steps, &trace.steps) {
                    Some(1..) if state.is_none() => bad("the state before the disputed step is missing"),
                    _ => Ok(Side::Auditor),
                }
            }
        }
    }

    /// `Judge`: the audit exists and waits for it; the signer is a validator; it hasn't said it before.
    pub(crate) fn check_judge(&self, signer: &PublicKey, id: AuditId) -> Result<(), Rejection> {
        let audit = self.check_audit(id, AuditState::Judging)?;
        if !self.validators().contains(signer) {
            return Err(Rejection::NotValidator(*signer));
        }
        match audit.judgements.contains_key(signer) {
            true => Err(Rejection::AlreadySaid(id)),
            false => Ok(()),
        }
    }
}

impl Change<'_> {
    /// Takes the steps of one side. With both, the first one that differs is judged; where none does, the sides disagree on what was
    /// made of them, which no single step shows: then the majority of the auditors stands.
    pub fn trace(&mut self, signer: &PublicKey, id: AuditId, trace: &RoundTrace, state: Option<Hash>) -> Result<(), Rejection> {
        let side = self.ledger.check_trace(signer, id, trace, &state)?;

        let now = self.now();
        if side == Side::Worker {
            // The accuser has its own time.
            self.audit(id, |audit| (audit.worker_trace, audit.since) = (Some(trace.clone()), now));
            return Ok(());
        }
        let worker = self.ledger.audits[&id].worker_trace.as_ref();
        let step = worker.and_then(|worker| first_difference(&worker.steps, &trace.steps));
        self.audit(id, |audit| {
            audit.auditor_trace = Some((trace.clone(), state));
            audit.disputed_step = step;
            if step.is_some() {
                audit.state = AuditState::Judging;
            }
        });
        if step.is_none() {
            self.close_audit(id, AuditVerdict::False, true);
        }
        Ok(())
    }

    /// Takes a validator's word.
    pub fn judge(&mut self, signer: &PublicKey, id: AuditId, step: Option<Hash>) -> Result<(), Rejection> {
        self.ledger.check_judge(signer, id)?;

        self.audit(id, |audit| {
            audit.judgements.insert(*signer, step);
        });
        match self.ledger.audits[&id].judged(self.ledger.validators().len()) {
            Judged::NotYet => {}
            Judged::Verdict(AuditVerdict::Passed) if !self.ledger.audits[&id].is_undoubted() => self.refute(id),
            Judged::Verdict(verdict) => self.close_audit(id, verdict, true),
        }
        Ok(())
    }

    /// The accusers were wrong about the first step on which they disagree with the worker. That doesn't make its later steps right:
    /// where nobody found so, others compute the round again.
    fn refute(&mut self, id: AuditId) {
        let audit = &self.ledger.audits[&id];
        let (job, answer) = (audit.job, audit.accusation());
        let accusers = audit.counting().filter(|auditor| auditor.outcome.map(|outcome| outcome.answer()) == answer);
        let accusers: Vec<(MachineId, bool)> = accusers.map(|auditor| (auditor.machine, auditor.same_class)).collect();
        self.audit(id, |audit| {
            (audit.auditor_trace, audit.disputed_step) = (None, None);
            audit.judgements.clear();
            for (machine, same_class) in &accusers {
                // One of another class can't be sure.
                let auditor = auditor(audit, *machine);
                (auditor.is_false, auditor.is_excused) = (*same_class, !same_class);
            }
        });
        let liars = accusers.into_iter().filter(|(_, same_class)| *same_class);
        liars.for_each(|(machine, _)| self.punish(machine, job, None, id));
        self.advance(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_a_hash_or_an_end() {
        let hash = |n: u8| Hash([n; 32]);
        assert_eq!(first_difference(&[hash(1), hash(2)], &[hash(1), hash(2)]), None);
        assert_eq!(first_difference(&[hash(1), hash(2)], &[hash(3), hash(2)]), Some(0));
        assert_eq!(first_difference(&[hash(1), hash(2)], &[hash(1)]), Some(1));
        assert_eq!(first_difference(&[], &[hash(1)]), Some(0));
    }

    #[test]
    fn a_quorum_is_two_of_three_faultless_parts_and_one_more() {
        assert_eq!([1, 2, 3, 4, 5, 6, 7, 10].map(quorum), [1, 2, 3, 3, 4, 5, 5, 7]);
    }
}
