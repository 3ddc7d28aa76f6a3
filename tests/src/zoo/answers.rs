//! What is said in audits: workers open commitments, auditors compute rounds again, both show their steps, validators judge one.

use std::rc::Rc;

use deepmarket_ledger::{Audit, Auditor};
use deepmarket_types::{
    Action, AuditState, Finding, Hash, JobId, MachineId, PublicKey, RoundOutcome, RoundTrace, blind, steps_root,
};

use super::{
    cheat::Kind,
    computing::{Audited, Setting, compute, first_difference, prepare},
    world::{Purpose, World, evidence_of},
};

/// What an auditor answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// It computed the round, or says so.
    Outcome {
        /// What it says that the round gives, and the steps.
        trace: RoundTrace,
        /// Hides it.
        salt: Hash,
        /// Does it say that this is the worker's answer?
        is_equal: bool,
    },
    /// It says that the inputs can't be those of the round.
    Unusable,
}

impl World<'_> {
    /// Everybody who has something to say in an open audit says it, in the next block.
    pub(super) fn speak(&mut self) {
        for id in self.open.clone() {
            let audit = self.chain.ledger.audit(id).expect("it is open").clone();
            match audit.state {
                AuditState::Disclosing => self.disclose(&audit),
                AuditState::Computing => self.commit(&audit),
                AuditState::Revealing => self.reveal(&audit),
                AuditState::Tracing => self.trace(&audit),
                AuditState::Judging => self.judge(&audit),
                AuditState::Waiting | AuditState::Closed(_) => {}
            }
        }
    }

    /// Is it this one's first word in this state of the audit?
    fn is_news(&mut self, audit: &Audit, state: &'static str, who: PublicKey) -> bool {
        self.spoken.insert((audit.id, state, who))
    }

    fn key_of(&self, machine: MachineId) -> PublicKey {
        self.chain.ledger.machine(machine).expect("machines are kept").key
    }

    /// The cheat that was planted in an audited window.
    fn cheat_in(&self, audit: &Audit) -> Option<Kind> {
        self.windows.get(&(audit.lease, audit.sequence)).map(|index| self.outcome.planted[*index].kind)
    }

    fn disclose(&mut self, audit: &Audit) {
        let (key, cheat) = (self.key_of(audit.machine), self.cheat_in(audit));
        if cheat == Some(Kind::SilentAtAudit) || !self.is_news(audit, "disclose", key) {
            return;
        }
        let (disclosure, evidence) = self.workers[&audit.lease].disclose(audit.id, audit.index, audit.window.committed.1);
        self.blobs.insert(disclosure.evidence, Rc::new(evidence.to_bytes()));
        // Its receipts claim more than its commitments: nothing that it can open fits the receipt.
        let inflated = self.workers[&audit.lease].inflated_since.is_some_and(|since| audit.sequence >= since);
        let purpose = if inflated { Purpose::Doomed } else { Purpose::Plain };
        self.send_for(key, Action::Disclose(disclosure), purpose);
    }

    fn commit(&mut self, audit: &Audit) {
        let waiting = audit.auditors.iter().filter(|auditor| auditor.finding.is_none() && !auditor.is_excused);
        for Auditor { machine, .. } in waiting.cloned().collect::<Vec<_>>() {
            let key = self.key_of(machine);
            if !self.is_news(audit, "commit", key) {
                continue;
            }
            let (answer, lie) = self.answer(audit, machine);
            if let Some(kind) = lie {
                let index = self.planted(kind, machine);
                self.lies.insert((audit.id, machine), index);
            }
            let finding = match &answer {
                Answer::Unusable => Finding::Unusable,
                Answer::Outcome { trace, salt, is_equal } => {
                    let blinded = blind(audit.id, &key, &trace.outcome.answer(), salt);
                    if *is_equal { Finding::Equal { blinded } } else { Finding::Different { blinded } }
                }
            };
            self.answers.insert((audit.id, machine), answer);
            self.send(key, Action::Commit { audit: audit.id, finding });
        }
    }

    /// What an auditor answers; tells the lie that it is, if it is one. A liar who audits a false round tells the truth: it would
    /// be no lie that it is false, and who says yes to everything is caught by the seal anyway.
    fn answer(&mut self, audit: &Audit, machine: MachineId) -> (Answer, Option<Kind>) {
        let kind = self.lenders[self.machines[&machine]].kind.filter(|kind| kind.is_auditor());
        let is_true = self.cheat_in(audit).is_none_or(|cheat| cheat == Kind::DoubleReceipts);
        let others_lie = audit.auditors.iter().any(|other| self.lies.contains_key(&(audit.id, other.machine)));
        match kind.filter(|kind| self.is_wanted(*kind) && (self.plan.league || !others_lie)) {
            Some(Kind::LyingAuditor) if is_true => (self.made_up(audit, false), Some(Kind::LyingAuditor)),
            Some(Kind::YesMan) => (self.made_up(audit, true), Some(Kind::YesMan)),
            _ => (self.recompute(audit), None),
        }
    }

    /// An answer that nobody computed.
    fn made_up(&mut self, audit: &Audit, is_equal: bool) -> Answer {
        let samples = audit.disclosed.as_ref().expect("it was disclosed").commitment.samples;
        let mut hash = match self.plan.league {
            true => Hash::tagged("zoo-league", &[&audit.id.0.to_le_bytes()]),
            false => self.dice.hash(),
        };
        let mut next = || {
            hash = Hash::of(&hash.0);
            hash
        };
        let steps = vec![next()];
        let outcome = RoundOutcome { inputs: next(), steps: steps_root(&steps), output: next(), exchange: next(), samples };
        Answer::Outcome { trace: RoundTrace { outcome, steps }, salt: self.dice.hash(), is_equal }
    }

    /// What the chain says of a job.
    fn setting(&self, job: JobId) -> Setting {
        self.trainings[&job].setting.clone()
    }

    fn recompute(&mut self, audit: &Audit) -> Answer {
        let disclosed = audit.disclosed.as_ref().expect("it was disclosed");
        let ranks = self.chain.ledger.job(audit.job).expect("jobs are kept").leases.len() as u32;
        let rank = self.chain.ledger.lease(audit.lease).expect("leases are kept").rank;
        let audited = Audited { window: &audit.window, commitment: &disclosed.commitment, rank, ranks };
        let setting = self.setting(audit.job);
        let Some(evidence) = evidence_of(&self.blobs, &disclosed.evidence) else { return Answer::Unusable };
        let Ok(mut trainer) = prepare(&setting, &audited, &evidence) else { return Answer::Unusable };
        let computed = compute(&mut trainer, evidence.round, evidence.team.len());
        self.outcome.recomputed += 1;
        let is_equal = deepmarket_types::seal(&computed.outcome.answer(), &disclosed.salt) == disclosed.commitment.sealed
            && computed.outcome.samples == disclosed.commitment.samples;
        Answer::Outcome { trace: computed.trace(), salt: self.dice.hash(), is_equal }
    }

    fn reveal(&mut self, audit: &Audit) {
        let silent = audit.auditors.iter().filter(|auditor| auditor.outcome.is_none() && !auditor.is_excused);
        for machine in silent.map(|auditor| auditor.machine).collect::<Vec<_>>() {
            let key = self.key_of(machine);
            let Some(Answer::Outcome { trace, salt, .. }) = self.answers.get(&(audit.id, machine)).cloned() else { continue };
            if self.is_news(audit, "reveal", key) {
                self.send(key, Action::Reveal { audit: audit.id, outcome: trace.outcome, salt });
            }
        }
    }

    /// The worker shows its steps, then the first auditor who accused it, with the state before the first step that differs.
    fn trace(&mut self, audit: &Audit) {
        let Some(of_worker) = &audit.worker_trace else {
            let key = self.key_of(audit.machine);
            // Some give up here.
            let gives_up = self.cheat_in(audit).is_some() && self.dice.roll(3) == 0;
            if self.is_news(audit, "trace", key) && !gives_up {
                let trace = self.workers[&audit.lease].trace(audit.index);
                self.send(key, Action::Trace { audit: audit.id, trace, state: None });
            }
            return;
        };
        let accuser = audit.auditors.iter().find(|auditor| {
            !auditor.is_false && !auditor.is_excused && matches!(auditor.finding, Some(Finding::Different { .. }))
        });
        let Some(machine) = accuser.map(|auditor| auditor.machine) else { return };
        let key = self.key_of(machine);
        if !self.is_news(audit, "trace", key) {
            return;
        }
        let Some(Answer::Outcome { trace, .. }) = self.answers.get(&(audit.id, machine)).cloned() else { return };
        let state = first_difference(&trace.steps, &of_worker.steps).and_then(|step| self.state_before(audit, step as u32));
        self.send(key, Action::Trace { audit: audit.id, trace, state });
    }

    /// The accusing auditor's blob: the state before a step of the audited round.
    fn state_before(&mut self, audit: &Audit, step: u32) -> Option<Hash> {
        let (round, mut trainer) = self.trainer_before(audit)?;
        let (state, _) = trainer.save_step(round, step).ok()?;
        let hash = Hash::of(&state);
        self.blobs.insert(hash, Rc::new(state));
        Some(hash)
    }

    /// A trainer that holds the state before the audited round.
    fn trainer_before(&self, audit: &Audit) -> Option<(u64, deepmarket_trainer::Trainer)> {
        let disclosed = audit.disclosed.as_ref()?;
        let ranks = self.chain.ledger.job(audit.job).expect("jobs are kept").leases.len() as u32;
        let rank = self.chain.ledger.lease(audit.lease).expect("leases are kept").rank;
        let audited = Audited { window: &audit.window, commitment: &disclosed.commitment, rank, ranks };
        let evidence = evidence_of(&self.blobs, &disclosed.evidence)?;
        let trainer = prepare(&self.setting(audit.job), &audited, &evidence).ok()?;
        Some((evidence.round, trainer))
    }

    /// Each validator computes the disputed step. Honest ones find the same; one of four may lie.
    fn judge(&mut self, audit: &Audit) {
        let truth = self.judgement(audit);
        for number in 0..self.validators.len() {
            let key = self.validators[number].public();
            if !self.is_news(audit, "judge", key) {
                continue;
            }
            self.outcome.judged += 1;
            let lies = number == 3 && self.outcome.seed.is_multiple_of(2);
            let step = if lies { Some(self.dice.hash()) } else { truth };
            self.send_for(key, Action::Judge { audit: audit.id, step }, Purpose::MayBeLate);
        }
    }

    /// What a validator finds: the hash of the state after the disputed step. Up to it both sides agree, so the state before it is
    /// the one with the hash of the step before; before the first step it is the evidence's.
    fn judgement(&self, audit: &Audit) -> Option<Hash> {
        let step = audit.disputed_step?;
        let (round, mut trainer) = self.trainer_before(audit)?;
        let state = match step {
            0 => trainer.save_step(round, 0).ok()?.0,
            _ => self.blobs.get(&audit.auditor_trace.as_ref()?.1?)?.to_vec(),
        };
        let stepped = trainer.step(round, step, &state).ok()?;
        let agreed = step.checked_sub(1).and_then(|before| audit.worker_trace.as_ref()?.steps.get(before as usize).copied());
        (step == 0 || agreed == Some(stepped.before)).then_some(stepped.after)
    }
}
