//! The rounds of one worker: compute, average, apply, compare; evaluate at the end of each epoch, keep a state now and then.
//!
//! ```text
//! team comes together   where does each stand? ─▶ who is behind gets the state ─▶ shards are shared out ─▶ rounds
//!
//! trainer   Round r ──▶ Apply ─▶ Round r+1 ──▶ Apply ─▶ …
//! members        average ▲  └ notes of r ┘ average ▲      compared while the next round is computed
//! ```
//!
//! A round counts once all members hold its average; one in which a member is lost is computed again by the next team. In `async`
//! rounds are computed ahead of the averages, and compared every [`NOTE_EVERY_ASYNC`] rounds only.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use deepmarket_api::ProgressKind;
use deepmarket_job::{Evidence, JobSpec, Mode, Schedule, Updates};
use deepmarket_net::{Encoding, Exchange};
use deepmarket_types::{Checkpoint, FailureReason, Hash};

use crate::{
    TrainerError,
    archive::Setting,
    checkpoints::{self, Checkpoints},
    committer::Committer,
    error::LeaseFailure,
    holdings::{Holdings, Plan, Share, Speeds, expected_speeds},
    keeper::Keeper,
    lease::Context,
    members::{Membership, Team, Trouble, exchange_standings, hand_over, peers_of, watched},
    progress::Reporter,
    receipts::{Receipts, Tally},
    standing::{CatchUp, EvaluationNote, Note as _, RoundNote, Standing, add_up, majority},
    trainer::{EvaluationSums, ROUND_WITHIN, TrainerProcess, Update},
};

/// The shortest time between two reports of rounds.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How much longer than the others' median of computing times a member may keep silent, and how often that median.
const PATIENCE: Duration = Duration::from_secs(8);
const PATIENCE_MEDIANS: u32 = 4;
/// How long members may take before rounds begin: they fetch states and shards.
const PREPARING_WITHIN: Duration = ROUND_WITHIN;
/// Rounds between two notes in `async`.
const NOTE_EVERY_ASYNC: u64 = 16;
/// Tags of what is told before the first round; notes of round r go under 2r, evaluations under 2r + 1.
const AGREED: u64 = u64::MAX - 2;
const READY: u64 = u64::MAX - 3;
const LATE_EVALUATION: u64 = u64::MAX - 4;

/// What a lease did and what it took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub tally: Tally,
    pub peak_ram_mib: u64,
    pub compute: Duration,
    pub exchange: Duration,
    pub wait: Duration,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub fetched_bytes: u64,
}

/// One worker's part of a training job, through all the teams that it belongs to.
pub(crate) struct Training<'a> {
    pub context: &'a Context,
    pub spec: &'a JobSpec,
    pub trainer: TrainerProcess,
    pub schedule: Schedule,
    /// Samples of the training split.
    pub train_samples: u64,
    pub holdings: Holdings,
    pub reporter: &'a Reporter,
    pub receipts: &'a Receipts,
    pub checkpoints: &'a Checkpoints,
    pub committer: Committer,
    pub keeper: Keeper,
    pub totals: Totals,
    /// Where the model stands.
    pub at: Place,
    /// Samples in a thousand seconds; 0: not known.
    pub speed: u64,
    pub batches: Option<Batches>,
    pub meter: Meter,
}

/// Where a model stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    /// Rounds applied.
    pub round: u64,
    /// Hash of the parameters.
    pub parameters: Hash,
    /// Samples of the running epoch that all members trained on; of the last one until the next begins.
    pub trained: u64,
    /// Epochs whose evaluation was told.
    pub evaluated: u64,
}

/// Rounds that one team trained, and that were not told yet.
#[derive(Clone, Debug)]
pub(crate) struct Batches {
    generation: u32,
    ranks: Vec<u32>,
    from: u64,
    to: u64,
    samples: u64,
}

/// A round that was computed and isn't averaged yet.
struct Computed {
    update: Update,
    /// Rounds that were applied when it was computed.
    applied: u64,
    /// What it was computed on.
    shards: Vec<u32>,
    /// Samples that each member has to give to it.
    weights: Vec<u64>,
}

/// What a team agreed on before its rounds.
struct Agreement {
    plan: Plan,
    /// A better plan, for which members fetch data.
    next: Option<Plan>,
}

impl Training<'_> {
    /// Trains in a team until all rounds are done and all members agree on the parameters.
    pub async fn run(&mut self, team: &mut Team, membership: &mut Membership) -> Result<(), Trouble> {
        team.group.set_patience(PREPARING_WITHIN);
        let agreement = self.come_together(team, membership).await?;
        self.rounds(team, membership, agreement).await
    }

    /// All members get to the same place, and share out the data.
    async fn come_together(&mut self, team: &mut Team, membership: &mut Membership) -> Result<Agreement, Trouble> {
        self.holdings.source.peers = peers_of(&team.members)?;
        let mut own = Standing::new(self.at.round, self.at.parameters, &self.holdings.own);
        (own.trained, own.evaluated, own.speed) = (self.at.trained, self.at.evaluated, self.speed);
        let standings = exchange_standings(team, membership, own).await?;
        self.catch_up(team, membership, &standings).await?;
        self.tell_batches(team);
        if team.position == 0 {
            let ranks: Vec<String> = team.ranks().iter().map(u32::to_string).collect();
            let (workers, round) = (team.world(), self.at.round);
            self.reporter.log(format!("{workers} worker(s) train from round {round} on: {}", ranks.join(", ")));
        }

        let held: Vec<Share> = standings.iter().map(Standing::share).collect();
        let seen: Vec<u64> = standings.iter().map(|standing| standing.speed).collect();
        let told: Vec<u64> = team.members.iter().map(|member| member.speed).collect();
        let speeds = expected_speeds(&seen, &told);
        let is_complete = self.holdings.sizes.complete(&held);
        let plan = if is_complete { held } else { self.holdings.sizes.plan(&speeds, &held) };
        self.holdings.take(&mut self.trainer, &plan[team.position], self.reporter).await?;
        self.totals.fetched_bytes = self.holdings.fetched_bytes;
        watched(membership, team, async |group| group.gather(READY, &[]).await).await?;
        let better = self.holdings.sizes.plan(&speeds, &plan);
        let next = (is_complete && better != plan).then_some(better);
        if let Some(next) = &next {
            self.holdings.fetch_ahead(&next[team.position]);
        }
        let told = standings.iter().map(|standing| standing.evaluated).max().unwrap_or(0);
        self.at.evaluated = told;
        if self.at.round > 0 && self.schedule.epoch_ended_by(self.at.round - 1).is_some_and(|epoch| told <= epoch) {
            // The last team was cut off between an epoch's last round and its evaluation.
            let sums = self.evaluate().await?;
            self.finish_epoch(team, membership, LATE_EVALUATION, self.at.round - 1, sums).await?;
        }
        Ok(Agreement { plan, next })
    }

    /// Members that are behind get the state of the one that is furthest; all take the last stored one where that is further.
    async fn catch_up(&mut self, team: &mut Team, membership: &mut Membership, standings: &[Standing]) -> Result<(), Trouble> {
        match CatchUp::of(standings) {
            CatchUp::Done => {}
            CatchUp::Stored(Checkpoint { state, rounds }) => {
                let bytes = self.holdings.source.fetch_state(&state).await?;
                self.restore(bytes).await?;
                self.reporter.log(format!("goes on from the state that was stored after {rounds} rounds"));
            }
            CatchUp::From(giver) => {
                let state = if team.position == giver { Some(self.trainer.save(self.at.trained).await?) } else { None };
                if let Some(state) = hand_over(self.context, team, membership, standings, giver, state).await? {
                    self.restore(state).await?;
                    let (rank, round) = (team.members[giver].rank, self.at.round);
                    self.reporter.log(format!("takes over the state of worker {rank} at round {round}"));
                }
            }
        }
        let digest = self.at.parameters.0;
        let hashes = watched(membership, team, async |group| group.gather(AGREED, &digest).await).await?;
        let hashes = hashes.iter().map(|hash| Hash(hash.as_slice().try_into().unwrap_or_default()));
        self.compare(hashes.collect(), "before its first round")
    }

    async fn restore(&mut self, state: Vec<u8>) -> Result<(), LeaseFailure> {
        let (parameters, round, trained) = self.trainer.restore(state).await?;
        self.at = Place { round, parameters, trained, evaluated: self.at.evaluated };
        self.batches = None;
        self.keeper.jump();
        Ok(())
    }

    async fn evaluate(&mut self) -> Result<EvaluationSums, TrainerError> {
        match self.holdings.own.validate.is_empty() {
            true => Ok(EvaluationSums::default()),
            false => self.trainer.evaluate().await,
        }
    }

    async fn rounds(&mut self, team: &mut Team, membership: &mut Membership, agreement: Agreement) -> Result<(), Trouble> {
        let Agreement { mut plan, next: mut next_plan } = agreement;
        let ahead = match self.spec.training.mode {
            Mode::Async { staleness } => u64::from(staleness),
            Mode::Sync | Mode::Local { .. } => 0,
        };
        let encoding = match self.spec.training.updates {
            Updates::F32 => Encoding::F32,
            Updates::Bf16 => Encoding::Bf16,
            Updates::Int8 => Encoding::Int8,
        };
        let rounds = self.schedule.rounds;
        let (mut computed, mut next_update) = (self.at.round, None);
        let mut waiting: VecDeque<Computed> = VecDeque::new();
        let mut speeds = Speeds::new(team.world());
        let (mut since_note, mut samples_since_note) = (Duration::ZERO, 0);
        // What we sent, and what came from each member, since the last note.
        let (mut sent_parts, mut came_parts) = (Vec::new(), vec![Vec::new(); team.world()]);
        while self.at.round < rounds {
            let round = self.at.round;
            while computed <= round + ahead && computed < rounds {
                let mut update = match next_update.take() {
                    Some(update) => update,
                    None => timed(&mut since_note, self.trainer.round(computed, team.world())).await?,
                };
                if !update.loss_sum.is_finite() {
                    let what = format!("the loss of round {computed} is not finite");
                    return Err(LeaseFailure::new(FailureReason::Diverged, what).into());
                }
                samples_since_note += update.samples;
                if encoding.is_exact() {
                    sent_parts.extend(&update.parts);
                }
                if ahead > 0 {
                    let values = std::mem::take(&mut update.values);
                    let started = team.group.start(computed, values, update.samples, encoding);
                    started.map_err(|e| team.trouble(e))?;
                }
                waiting.push_back(Computed {
                    update,
                    applied: round,
                    shards: plan[team.position].train.clone(),
                    weights: self.holdings.sizes.weights(&plan, &self.schedule, computed),
                });
                computed += 1;
            }
            let Some(mut own) = waiting.pop_front() else {
                return Err(LeaseFailure::new(FailureReason::TrainerCrashed, "no round is computed").into());
            };
            let (values, exchange) = self.average(team, membership, round, &mut own.update, encoding, ahead > 0).await?;
            let totals = &mut self.totals;
            totals.wait += exchange.waited;
            totals.exchange += exchange.exchanged;
            totals.sent_bytes += exchange.sent;
            totals.received_bytes += exchange.received;
            if let Some(position) = cheater(&exchange.weights, &own.weights, team.position) {
                let (told, due) = (exchange.weights[position], own.weights[position]);
                let why = format!("it tells {told} samples of round {round}, where the plan gives it {due}");
                return Err(Trouble::Peer { lease: Some(team.members[position].lease), why, is_late: false });
            }
            came_parts.iter_mut().zip(&exchange.parts).for_each(|(came, part)| came.push(*part));
            let parameters = timed(&mut since_note, self.trainer.apply(&values)).await?;
            self.keeper.average(round, values).await;
            self.count(team, parameters, exchange.weights.iter().sum(), &own);

            let ended_epoch = self.schedule.epoch_ended_by(round);
            let is_last = self.at.round == rounds;
            let notes_now = ahead == 0 || ended_epoch.is_some() || is_last || self.at.round.is_multiple_of(NOTE_EVERY_ASYNC);
            let keeps = team.position == 0 && checkpoints::is_due(self.spec.recovery.checkpoint_rounds, self.at.round, rounds);
            if keeps {
                // The log must know what is in a checkpoint before the chain knows of the checkpoint.
                self.tell_batches(team);
            }
            if !notes_now {
                if keeps {
                    self.keep().await?;
                }
                self.report(round, false);
                continue;
            }
            self.totals.compute += since_note;
            let note = RoundNote {
                parameters,
                computed_us: since_note.as_micros() as u64,
                samples: std::mem::take(&mut samples_since_note),
                sees: membership.generation(),
                is_ready: next_plan.is_some() && self.holdings.is_fetched(),
                parts: sent_parts.drain(..came_parts[0].len() * team.world() * usize::from(encoding.is_exact())).collect(),
            };
            since_note = Duration::ZERO;
            let (note, mut computing, began) = (note.encoded(), Duration::ZERO, Instant::now());
            // Both run to their ends: a trainer that is dropped while it answers is of no use any more.
            let world = team.world();
            let go_on = timed(&mut computing, async {
                let sums = if ended_epoch.is_some() { self.evaluate().await? } else { EvaluationSums::default() };
                if keeps {
                    self.keep().await?;
                }
                let asked = Instant::now();
                let update = if computed < rounds { Some(self.trainer.round(computed, world).await?) } else { None };
                Ok::<_, LeaseFailure>((sums, update, asked.elapsed()))
            });
            let gather = watched(membership, team, async |group| group.gather(2 * round, &note).await);
            let (notes, went_on) = futures::join!(gather, go_on);
            let (sums, update, took) = went_on?;
            // The next round's time is told with that round.
            self.totals.compute += computing.saturating_sub(took);
            self.totals.wait += began.elapsed().saturating_sub(computing);
            let notes = RoundNote::all(&notes?).map_err(|e| team.trouble(e))?;
            for (position, (note, came)) in notes.iter().zip(&mut came_parts).enumerate() {
                if !note.sent(came, team.position, team.members.len()) {
                    let why = format!("up to round {round} it sent another update than it tells");
                    return Err(Trouble::Peer { lease: Some(team.members[position].lease), why, is_late: false });
                }
                came.clear();
            }
            self.compare(notes.iter().map(|note| note.parameters).collect(), &format!("after round {round}"))?;
            next_update = update;
            since_note += took;
            if ended_epoch.is_some() {
                self.finish_epoch(team, membership, 2 * round + 1, round, sums).await?;
            }
            self.report(round, ended_epoch.is_some());
            for (position, note) in notes.iter().enumerate() {
                speeds.add(position, Duration::from_micros(note.computed_us), note.samples);
            }
            self.speed = speeds.known()[team.position];
            team.group.set_patience(patience(notes.iter().map(|note| Duration::from_micros(note.computed_us)).collect()));
            if notes.iter().all(|note| note.sees > team.generation) && !is_last {
                return Err(Trouble::Changed);
            }
            if next_plan.is_some() && notes.iter().all(|note| note.is_ready) {
                plan = next_plan.take().unwrap_or(plan);
                self.holdings.take(&mut self.trainer, &plan[team.position], self.reporter).await?;
                self.totals.fetched_bytes = self.holdings.fetched_bytes;
                // What was computed ahead was computed on other shards.
                (next_update, since_note, speeds) = (None, Duration::ZERO, Speeds::new(team.world()));
                team.group.set_patience(PREPARING_WITHIN);
            } else if next_plan.is_none()
                && let Some(known) = speeds.believed()
            {
                next_plan = self.holdings.sizes.better_plan(&plan, &known);
                speeds.fade();
                if let Some(next) = &next_plan {
                    self.holdings.fetch_ahead(&next[team.position]);
                    self.report_plan(team, next, &known);
                }
            }
        }
        self.tell_batches(team);
        Ok(())
    }

    /// Averages a round with the other members. Meanwhile the trainer has nothing to do: the state before the round is kept where it
    /// is due.
    async fn average(
        &mut self,
        team: &mut Team,
        membership: &mut Membership,
        round: u64,
        update: &mut Update,
        encoding: Encoding,
        was_started: bool,
    ) -> Result<(Vec<f32>, Exchange), Trouble> {
        let (samples, mut values) = (update.samples, std::mem::take(&mut update.values));
        let averaging = watched(membership, team, async |group| match was_started {
            true => group.finish(round).await,
            false => {
                let exchange = group.average(round, &mut values, samples, encoding).await?;
                Ok((std::mem::take(&mut values), exchange))
            }
        });
        if !self.keeper.wants_state(round) {
            return averaging.await;
        }
        // Both run to their ends: a trainer that is dropped while it answers is of no use any more.
        let (averaged, saved) = futures::join!(averaging, self.trainer.save(self.at.trained));
        match saved {
            Ok(state) if state.len() <= Evidence::MAX_BYTES / 2 => self.keeper.state(round, state).await,
            // Such models aren't audited.
            Ok(_) => self.keeper.give_up(),
            Err(TrainerError::Failed { message, .. }) => {
                self.reporter.log(format!("its rounds can't be shown to auditors: {message}"));
                self.keeper.give_up();
            }
            Err(error) => return Err(error.into()),
        }
        averaged
    }

    /// Takes note of an applied round: for the receipts and what is kept for audits, and for the job's ledger of batches.
    fn count(&mut self, team: &Team, parameters: Hash, samples: u64, computed: &Computed) {
        let own = &computed.update;
        let round = self.at.round;
        let begins_epoch = round == self.schedule.first_round_of(self.schedule.epoch_of_round(round));
        self.at.trained = if begins_epoch { samples } else { self.at.trained + samples };
        (self.at.round, self.at.parameters) = (round + 1, parameters);
        let batches = self.batches.get_or_insert_with(|| Batches {
            generation: team.generation,
            ranks: team.ranks(),
            from: round,
            to: round,
            samples: 0,
        });
        (batches.to, batches.samples) = (round + 1, batches.samples + samples);

        let total_samples = self.totals.tally.samples + own.samples;
        let commitment = self.committer.commit(round, &own.outcome(), total_samples);
        self.keeper.round(commitment, computed.applied, Setting { shards: computed.shards.clone(), team: team.ranks() });
        self.totals.peak_ram_mib = own.peak_ram_mib;
        let tally = &mut self.totals.tally;
        if tally.rounds == tally.from {
            // It takes part for the first time.
            tally.from = round;
        }
        tally.rounds = round + 1;
        tally.samples += own.samples;
        tally.cpu_ms += own.cpu_ms;
        tally.parameters = parameters;
        (tally.commitments, tally.committed) = (self.committer.root(), self.committer.committed());
        if own.samples > 0 {
            tally.loss_micro = micro(own.loss_sum / own.samples as f64);
        }
        self.receipts.record(*tally);
        self.meter.add(own.loss_sum, own.samples);
    }

    /// Tells which rounds were trained on how many samples, since that was last told. The first member does.
    fn tell_batches(&mut self, team: &Team) {
        let Some(Batches { generation, ranks, from, to, samples }) = self.batches.take() else { return };
        if team.position == 0 {
            let epoch = self.schedule.epoch_of_round(from);
            self.reporter.report(ProgressKind::Trained { generation, from, to, epoch, samples, ranks });
        }
    }

    fn report_plan(&self, team: &Team, plan: &Plan, speeds: &[u64]) {
        if team.position == 0 {
            let parts = team.members.iter().zip(plan).zip(speeds);
            let parts = parts.map(|((member, share), speed)| {
                format!("worker {} ({} samples/s) {} shards", member.rank, speed / 1000, share.train.len())
            });
            self.reporter.log(format!("shares follow the measured speeds: {}", parts.collect::<Vec<_>>().join(", ")));
        }
    }

    /// Stores the state. A model too large for that goes on without.
    async fn keep(&mut self) -> Result<(), LeaseFailure> {
        match self.trainer.save(self.at.trained).await {
            Ok(state) => self.checkpoints.offer(state, self.at.round),
            Err(TrainerError::Failed { message, .. }) => self.reporter.log(format!("no checkpoint: {message}")),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Adds up all members' evaluations, and checks that each sample was trained on once; the first member tells.
    async fn finish_epoch(
        &mut self,
        team: &mut Team,
        membership: &mut Membership,
        tag: u64,
        round: u64,
        own: EvaluationSums,
    ) -> Result<(), Trouble> {
        let note = EvaluationNote::from(own).encoded();
        let notes = watched(membership, team, async |group| group.gather(tag, &note).await).await?;
        let parts = EvaluationNote::all(&notes).map_err(|e| team.trouble(e))?;
        let EvaluationSums { samples, correct, loss_sum } = add_up(parts.into_iter().map(EvaluationSums::from));
        let (epoch, trained) = (self.schedule.epoch_of_round(round), self.at.trained);
        if trained != self.train_samples {
            let all = self.train_samples;
            let what = format!("epoch {epoch} used {trained} samples, and the training split has {all}: each must be used once");
            return Err(LeaseFailure::new(FailureReason::Disagreement, what).into());
        }
        self.tell_batches(team);
        self.at.evaluated = epoch + 1;
        if team.position == 0 {
            let (epochs, loss) = (self.spec.training.epochs.into(), loss_sum / samples.max(1) as f64);
            self.reporter.report(ProgressKind::Epoch { epoch, epochs, trained, correct, samples, loss });
        }
        Ok(())
    }

    fn report(&mut self, round: u64, at_once: bool) {
        self.meter.report(self.reporter, round, &self.schedule, &self.totals, at_once);
    }

    /// All members hold the same parameters. One that holds others than most of them can't go on.
    fn compare(&self, hashes: Vec<Hash>, when: &str) -> Result<(), Trouble> {
        let own = self.at.parameters;
        let differing: Vec<usize> = hashes.iter().enumerate().filter(|(_, hash)| **hash != own).map(|(p, _)| p).collect();
        if differing.is_empty() {
            return Ok(());
        }
        if majority(hashes) == Some(own) {
            let why = format!("members {differing:?} hold other parameters {when}");
            return Err(Trouble::Peer { lease: None, why, is_late: false });
        }
        let what = format!("most others hold other parameters {when}");
        Err(LeaseFailure::new(FailureReason::Disagreement, what).into())
    }
}

/// The first other member that tells another number of samples than the plan gives it. Our own trainer's word is the others' to
/// check.
fn cheater(told: &[u64], due: &[u64], own: usize) -> Option<usize> {
    (0..due.len()).find(|position| *position != own && told[*position] != due[*position])
}

/// How long a member may keep silent, by the others' times of computing.
fn patience(mut computed: Vec<Duration>) -> Duration {
    computed.sort_unstable();
    let median = computed.get(computed.len() / 2).copied().unwrap_or_default();
    (PATIENCE + PATIENCE_MEDIANS * median).min(PREPARING_WITHIN)
}

async fn timed<T>(sum: &mut Duration, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let result = work.await;
    *sum += began.elapsed();
    result
}

/// A mean loss in millionths, saturating.
pub(crate) fn micro(loss: f64) -> u64 {
    (loss * 1e6).clamp(0.0, u64::MAX as f64) as u64
}

/// Reports rounds about once a second.
#[derive(Default)]
pub(crate) struct Meter {
    reported: Option<Instant>,
    loss_sum: f64,
    samples: u64,
    last_loss: f64,
}

impl Meter {
    fn add(&mut self, loss_sum: f64, samples: u64) {
        self.loss_sum += loss_sum;
        self.samples += samples;
    }

    fn report(&mut self, reporter: &Reporter, round: u64, schedule: &Schedule, totals: &Totals, at_once: bool) {
        if !at_once && self.reported.is_some_and(|at| at.elapsed() < REPORT_EVERY) {
            return;
        }
        self.reported = Some(Instant::now());
        if self.samples > 0 {
            self.last_loss = self.loss_sum / self.samples as f64;
        }
        (self.loss_sum, self.samples) = (0.0, 0);
        reporter.report(ProgressKind::Round {
            round: round + 1,
            rounds: schedule.rounds,
            epoch: schedule.epoch_of_round(round),
            loss: self.last_loss,
            compute_ms: totals.compute.as_millis() as u64,
            exchange_ms: totals.exchange.as_millis() as u64,
            wait_ms: totals.wait.as_millis() as u64,
            exchanged_bytes: totals.sent_bytes + totals.received_bytes,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_in_millionths_saturates() {
        assert_eq!(micro(0.25), 250_000);
        assert_eq!(micro(-1.0), 0);
        assert_eq!(micro(f64::INFINITY), u64::MAX);
    }

    #[test]
    fn who_tells_other_samples_than_the_plans_is_found() {
        assert_eq!(cheater(&[4, 5, 3], &[4, 4, 4], 2), Some(1));
        assert_eq!(cheater(&[4, 5, 4], &[4, 4, 4], 1), None);
    }

    #[test]
    fn patience_follows_the_others_median() {
        let seconds = |s: &[u64]| s.iter().map(|s| Duration::from_secs(*s)).collect::<Vec<_>>();
        assert_eq!(patience(seconds(&[0, 0, 100])), PATIENCE);
        assert_eq!(patience(seconds(&[2, 3, 100])), PATIENCE + Duration::from_secs(12));
        assert_eq!(patience(seconds(&[10_000, 10_000])), PREPARING_WITHIN);
    }
}
