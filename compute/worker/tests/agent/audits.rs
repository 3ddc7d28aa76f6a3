//! Audits: agents open what is drawn of their work, and compute what others opened. The stand-in gateway checks disclosures as the
//! ledger does, and hands out duties; with the real trainer, answers are equal to the bit.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use deepmarket_api::{AuditDuty, AuditTask, Client, DisputedStep};
use deepmarket_job::Evidence;
use deepmarket_types::{
    Action, AuditId, Finding, Hash, LeaseOutcome, MachineId, RoundOutcome, RoundTrace, SecretKey, TimeMs, blind, seal, steps_root,
};
use deepmarket_worker::{
    JudgeConfig, judge,
    testing::{Lie, Real, lying_trainer},
};

use crate::{Market, gateway::chain, machine_key, script};

/// The real trainer, where it was built.
fn real_trainer() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.parent()?.parent()?.join("deepmarket-trainer");
    if !path.exists() {
        print!("(the real trainer isn't built: left out) ");
    }
    path.exists().then_some(path)
}

/// `lying-trainer LIE REAL ARGUMENTS`
pub fn lie(arguments: &[String]) {
    let lie: Lie = arguments[0].parse().unwrap();
    lying_trainer(&lie, || Real::program(Path::new(&arguments[1]), &arguments[2..])).unwrap();
}

fn machine(number: u8) -> MachineId {
    MachineId::from_key(&machine_key(number).public())
}

fn audit_of(action: &Action) -> AuditId {
    match action {
        Action::Disclose(disclosure) => disclosure.audit,
        Action::Commit { audit, .. } | Action::Reveal { audit, .. } | Action::Trace { audit, .. } => *audit,
        other => panic!("{}", other.name()),
    }
}

impl Market {
    /// Trains with some trainer until the job is over.
    async fn trained(name: &str, program: impl Fn(&Path) -> PathBuf + 'static) -> Market {
        let market = Market::start_with(Box::new(program)).await;
        market.gateway.submit_job(name, 3);
        market.until("the job is closed", |m| m.gateway.state().closed()).await;
        let finals = market.gateway.state().receipts.iter().filter(|r| matches!(r.outcome, LeaseOutcome::Finished(_))).count();
        assert_eq!(finals, 3);
        market
    }

    fn committed(&self, rank: u32) -> u64 {
        self.gateway.state().receipts.iter().rfind(|receipt| receipt.rank == rank).unwrap().committed
    }

    /// What a machine says to a duty.
    async fn said(&self, machine: MachineId, audit: AuditId) -> Action {
        let is_it = |(from, action): &(MachineId, Action)| *from == machine && audit_of(action) == audit;
        self.until("a machine did its duty", |m| m.gateway.state().said.iter().any(is_it)).await;
        let mut state = self.gateway.state();
        let at = state.said.iter().position(is_it).unwrap();
        state.said.remove(at).1
    }

    /// Draws a round of a rank, and waits until it is opened.
    async fn opened(&self, rank: u32, index: u64) -> AuditId {
        let audit = self.gateway.state().draw(rank, index);
        let worker = self.gateway.state().audits[&audit].machine;
        assert!(matches!(self.said(worker, audit).await, Action::Disclose(_)));
        audit
    }

    /// Gives a machine something to do in an audit, and waits until it says something.
    async fn does(&self, number: u8, audit: AuditId, task: AuditTask, change: impl FnOnce(&mut AuditDuty)) -> Action {
        {
            let mut state = self.gateway.state();
            let mut duty = AuditDuty { task, ..state.audits[&audit].clone() };
            change(&mut duty);
            state.duties.push((machine(number), duty));
        }
        self.said(machine(number), audit).await
    }

    async fn finds(&self, number: u8, audit: AuditId, change: impl FnOnce(&mut AuditDuty)) -> Finding {
        match self.does(number, audit, AuditTask::Compute, change).await {
            Action::Commit { finding, .. } => finding,
            other => panic!("{}", other.name()),
        }
    }

    async fn shows(&self, number: u8, audit: AuditId) -> (RoundOutcome, Hash) {
        match self.does(number, audit, AuditTask::Reveal, |_| {}).await {
            Action::Reveal { outcome, salt, .. } => (outcome, salt),
            other => panic!("{}", other.name()),
        }
    }

    /// A machine says that the worker was right, shows its answer, and that opens the worker's seal.
    async fn passes(&self, number: u8, audit: AuditId) {
        let finding = self.finds(number, audit, |_| {}).await;
        let Finding::Equal { blinded } = finding else { panic!("{finding:?}") };
        let (outcome, salt) = self.shows(number, audit).await;
        self.is_shown(number, audit, blinded, &outcome, salt);
    }

    fn is_shown(&self, number: u8, audit: AuditId, blinded: Hash, outcome: &RoundOutcome, salt: Hash) {
        assert_eq!(blind(audit, &machine_key(number).public(), &outcome.answer(), &salt), blinded);
        let disclosed = self.gateway.state().audits[&audit].disclosed.clone().unwrap();
        assert_eq!(seal(&outcome.answer(), &disclosed.salt), disclosed.commitment.sealed);
        assert_eq!(outcome.samples, disclosed.commitment.samples);
    }

    /// Stores another evidence in the place of the one that was disclosed.
    fn change_evidence(&self, audit: AuditId, change: impl FnOnce(&mut Evidence)) {
        let mut state = self.gateway.state();
        let hash = state.audits[&audit].disclosed.as_ref().unwrap().evidence;
        let mut evidence = Evidence::from_bytes(&state.blobs[&hash]).unwrap();
        change(&mut evidence);
        state.blobs.insert(evidence.hash(), evidence.to_bytes().into());
        state.audits.get_mut(&audit).unwrap().disclosed.as_mut().unwrap().evidence = evidence.hash();
    }

    fn evidence(&self, audit: AuditId) -> Evidence {
        let state = self.gateway.state();
        Evidence::from_bytes(&state.blobs[&state.audits[&audit].disclosed.as_ref().unwrap().evidence]).unwrap()
    }

    /// Kills an agent without a word and starts it again.
    fn restart(&mut self, number: u8) {
        let agent = self.agents.remove(number as usize);
        agent.task.abort();
        self.agents.insert(number as usize, self.agent(number));
    }
}

/// All of a lease: the first round, some in the middle, the last one.
async fn any_round_passes(market: &Market) {
    for rank in 0..3_u32 {
        let committed = market.committed(rank);
        for index in [0, committed / 2, committed - 1] {
            let audit = market.opened(rank, index).await;
            assert_eq!(market.evidence(audit).update, None, "an auditor of the same class needn't see it");
            market.passes((rank as u8 + 1) % 3, audit).await;
        }
    }
}

pub async fn pass() {
    let mut market = Market::trained("steady", crate::trainer_program).await;
    any_round_passes(&market).await;
    // Long after the lease, in another life of the agent, without an offer.
    market.restart(1);
    let audit = market.opened(1, 17).await;
    market.passes(2, audit).await;
    market.end().await;
}

pub async fn real_passes(name: &'static str) {
    let Some(real) = real_trainer() else { return };
    let market = Market::trained(name, move |_| real.clone()).await;
    any_round_passes(&market).await;
    market.end().await;
}

pub async fn restarted() {
    let mut market = Market::trained("steady", crate::trainer_program).await;
    let audit = market.opened(1, 5).await;
    let Finding::Equal { blinded } = market.finds(0, audit, |_| {}).await else { panic!() };
    market.restart(0);
    // Asked to compute again, it gives the very same answer; and then shows it.
    assert_eq!(market.finds(0, audit, |_| {}).await, Finding::Equal { blinded });
    market.restart(0);
    let (outcome, salt) = market.shows(0, audit).await;
    market.is_shown(0, audit, blinded, &outcome, salt);
    // Another answer would be a second one, even where the worker's leaf looks otherwise now.
    let other = |duty: &mut AuditDuty| duty.disclosed.as_mut().unwrap().commitment.sealed = Hash::of(b"other");
    assert_eq!(market.finds(0, audit, other).await, Finding::Equal { blinded });
    market.end().await;
}

pub async fn lies() {
    let market = Market::trained("steady", crate::trainer_program).await;
    let sealed_otherwise = |duty: &mut AuditDuty| duty.disclosed.as_mut().unwrap().commitment.sealed = Hash::of(b"other");
    let audit = market.opened(0, 20).await;
    assert!(matches!(market.finds(1, audit, sealed_otherwise).await, Finding::Different { .. }));
    assert!(matches!(market.finds(2, audit, |_| {}).await, Finding::Equal { .. }));

    // An average that was another one; the receipts of this window tell nothing of the rounds between.
    let audit = market.opened(0, 20).await;
    market.change_evidence(audit, |e| e.averages.iter_mut().for_each(|average| average.fill(0)));
    let silent = |duty: &mut AuditDuty| (duty.rounds.0, duty.parameters.0) = (0, None);
    assert!(matches!(market.finds(1, audit, silent).await, Finding::Different { .. }));

    // Parameters on the way that aren't those of the receipt.
    let audit = market.opened(0, 20).await;
    let before = market.evidence(audit).applied - market.evidence(audit).averages.len() as u64;
    let other = |duty: &mut AuditDuty| (duty.rounds.0, duty.parameters.0) = (before, Some(Hash::of(b"other")));
    assert_eq!(market.finds(1, audit, other).await, Finding::Unusable);

    // Contradictions, and a state that is none.
    let changes: [fn(&mut Evidence); 5] = [
        |e| e.round += 1,
        |e| e.shards = vec![9],
        |e| e.team = vec![0, 7],
        |e| e.state = vec![1, 2, 3],
        |e| drop(e.averages.pop()),
    ];
    for change in changes {
        let audit = market.opened(0, 21).await;
        market.change_evidence(audit, change);
        assert_eq!(market.finds(1, audit, |_| {}).await, Finding::Unusable);
    }

    // Nobody has it.
    let audit = market.opened(0, 20).await;
    let soon = TimeMs(market.gateway.state().audits[&audit].deadline.0 - 57_000);
    let missing = |duty: &mut AuditDuty| {
        duty.disclosed.as_mut().unwrap().evidence = Hash::of(b"nothing");
        duty.deadline = soon;
    };
    assert_eq!(market.finds(1, audit, missing).await, Finding::Unusable);
    market.end().await;
}

pub async fn another_class() {
    let market = Market::trained("steady", crate::trainer_program).await;
    market.gateway.state().other_class.insert(machine(1));
    let audit = market.opened(1, 9).await;
    let evidence = market.evidence(audit);
    assert!(evidence.update.is_some() && evidence.steps.is_some() && evidence.averages.is_empty());
    let finding = market.finds(0, audit, |duty| duty.same_class = false).await;
    assert!(matches!(finding, Finding::Equal { .. }), "{finding:?}");
    market.end().await;
}

/// One of three workers has a real trainer that works on half of its samples.
pub async fn a_liar_is_found() {
    let Some(real) = real_trainer() else { return };
    let program = move |home: &Path| match home.ends_with("machine-1") {
        false => real.clone(),
        true => script(home, &["lying-trainer", "fewer-samples", real.to_str().unwrap()]),
    };
    let market = Market::trained("real", program).await;
    let (honest, lie) = (market.opened(0, 3).await, market.opened(1, 3).await);
    market.passes(2, honest).await;
    let finding = market.finds(2, lie, |_| {}).await;
    assert!(matches!(finding, Finding::Different { .. }), "{finding:?}");
    market.end().await;
}

/// Worker and auditor disagree from the second step of a local round on: a validator computes that one step.
pub async fn disputed() {
    let Some(real) = real_trainer() else { return };
    let trainer = real.clone();
    let market = Market::trained("real-local", move |_| real.clone()).await;
    let audit = market.opened(1, 2).await;
    assert!(matches!(market.finds(0, audit, |_| {}).await, Finding::Equal { .. }));
    let (outcome, _) = market.shows(0, audit).await;
    let Action::Trace { trace: worker, state: None, .. } = market.does(1, audit, AuditTask::Trace, |_| {}).await else {
        panic!()
    };
    assert_eq!(worker.outcome, outcome);
    assert_eq!(steps_root(&worker.steps), outcome.steps);
    assert!(worker.steps.len() > 1, "{}", worker.steps.len());

    let mut liar = worker.clone();
    liar.steps[1..].iter_mut().for_each(|step| *step = Hash::of(&step.0));
    let show = |duty: &mut AuditDuty| duty.worker_trace = Some(liar.clone());
    let Action::Trace { trace, state: Some(state), .. } = market.does(0, audit, AuditTask::Trace, show).await else { panic!() };
    assert_eq!(trace, RoundTrace { outcome, steps: worker.steps.clone() });

    let config = JudgeConfig {
        chain: chain(),
        key: SecretKey::from_seed([7; 32]),
        client: Client::new(vec![market.gateway.url.clone()]).unwrap(),
        trainer: trainer.into(),
    };
    let base = market.gateway.state().audits[&audit].clone();
    let judged = async |step: u32, before, state| {
        let (worker, auditor) = (Some(liar.steps[step as usize]), Some(trace.steps[step as usize]));
        let disputed = Some(DisputedStep { step, before, worker, auditor, state });
        judge(&config, &AuditDuty { task: AuditTask::Judge, disputed, ..base.clone() }).await
    };
    assert_eq!(judged(1, Some(worker.steps[0]), Some(state)).await, Some(worker.steps[1]));
    assert_eq!(judged(0, None, None).await, Some(worker.steps[0]));
    assert_eq!(judged(1, Some(Hash::of(b"other")), Some(state)).await, None, "not the state on which both agree");
    assert_eq!(judged(1, Some(worker.steps[0]), None).await, None);
    market.end().await;
}

pub async fn owner_returns() {
    let mut market = Market::start().await;
    market.gateway.submit_job("slow", 3);
    market.until("training began", |m| m.gateway.state().receipts_of_each_rank(1)).await;
    let agent = market.agents.remove(1);
    agent.stop.cancel();
    let gave_back = |m: &Market| m.gateway.state().receipts.iter().any(|r| r.rank == 1 && r.outcome != LeaseOutcome::Running);
    market.until("it gave the lease back", gave_back).await;
    // Drawn two blocks later.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let audit = market.opened(1, market.committed(1) - 1).await;
    tokio::time::timeout(Duration::from_secs(10), agent.task).await.unwrap().unwrap().unwrap();
    assert!(!fs::exists(market.folder.path().join("machine-1/answers").join(format!("{audit}.answer"))).unwrap());
    market.passes(0, audit).await;
    market.until("the others finish", |m| m.gateway.state().closed()).await;
    market.end().await;
}
