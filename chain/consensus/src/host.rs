//! The host of the engine: one loop on one thread that answers what the engine asks. It waits in one place (`run`) and changes
//! things in functions that don't wait.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use deepmarket_engine::{
    Address, BlockHeight, Value,
    host::{
        AppMsg, Channels, CommitCertificate, Event, ExtendedCommitCertificate, HeightParams, LocallyProposedValue, NetworkMsg,
        Next, ProposedValue, RawDecidedValue, Reply, Round, SignedConsensusMsg, SyncedValueOutcome, Validity,
    },
    wire::Wire,
};
use deepmarket_store::Certificate;
use deepmarket_types::{Block, Hash, Height, PublicKey, TimeMs, decode, encode};
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::MissedTickBehavior,
};
use tracing::{debug, error, info, warn};

use crate::{
    ConsensusError, Tamper,
    build::{build, tampered},
    candidate::Candidate,
    commit::commit,
    pace::{self, Moment},
    parts::{Assembler, Streamed, split},
    shared::Shared,
    validate::{InvalidBlock, Parent, validate},
};

/// How often a held-back engine is looked at without being woken: prices and heartbeats come due by the clock.
const TICK: Duration = Duration::from_millis(100);
/// Proposals this many heights ahead are kept until their parent is here.
const FUTURE_HEIGHTS: u64 = 4;
/// The most bytes of such proposals.
const FUTURE_BYTES: usize = 16 << 20;
/// The most candidates of one height in memory, and the most bodies of one height on disk.
const MAX_CANDIDATES: usize = 16;
/// The most bytes of decided blocks in one answer to a peer that catches up: what one value-sync response carries.
const SYNC_BYTES: usize = 8 << 20;
/// How far ahead a vote may be to tell anything: a liar's vote for the far future would wake us forever.
const VOTE_HEIGHTS: u64 = 16;

/// This machine's clock.
pub fn now() -> TimeMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimeMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// The engine waits to be told to begin the next height.
struct Held {
    reply: Reply<Next>,
    decided: TimeMs,
}

pub struct Host {
    shared: Arc<Shared>,
    network: mpsc::Sender<NetworkMsg>,
    tamper: Option<Tamper>,
    assembler: Assembler,
    /// Valid proposals of the next height, in memory. Those that are not are on disk.
    candidates: HashMap<Hash, Candidate>,
    /// Proposals whose parent isn't here yet.
    future: BTreeMap<(Height, Hash), Streamed>,
    held: Option<Held>,
    /// The highest height that a validator voted for, as far as heard.
    peer_height: u64,
    /// Were the proposals that a crash left on disk given back to the engine?
    recovered: bool,
    /// Makes ids of streams fresh, across restarts too.
    stream: (u64, u64),
}

impl Host {
    pub fn new(shared: Arc<Shared>, network: mpsc::Sender<NetworkMsg>, tamper: Option<Tamper>) -> Self {
        Host {
            shared,
            network,
            tamper,
            assembler: Assembler::default(),
            candidates: HashMap::new(),
            future: BTreeMap::new(),
            held: None,
            peer_height: 0,
            recovered: false,
            stream: (now().0, 0),
        }
    }

    /// Answers the engine until the node stops (`Ok`) or can't go on.
    pub async fn run(mut self, channels: Channels, mut stop: watch::Receiver<bool>) -> Result<(), ConsensusError> {
        let mut asked = channels.consensus;
        let mut events = channels.events.subscribe();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shared = self.shared.clone();
        loop {
            tokio::select! {
                biased;
                _ = stop.changed() => return Ok(()),
                message = asked.recv() => match message {
                    Some(message) => self.answer(message).await?,
                    None => return Err(ConsensusError::Engine("the consensus engine ended; its log says why".into())),
                },
                event = events.recv() => self.hear(event),
                () = shared.work.notified() => {}
                _ = tick.tick(), if self.held.is_some() => {}
            }
            self.begin_next_height();
        }
    }

    fn tip(&self) -> Height {
        self.shared.store.tip().expect("initialised before the engine starts").height
    }

    fn state_root(&self) -> Hash {
        self.shared.store.state_root().expect("initialised before the engine starts")
    }

    fn start_of_height(&self) -> (BlockHeight, HeightParams) {
        let params = HeightParams::new(self.shared.validators.clone(), Default::default(), None);
        (BlockHeight(self.tip().next().0), params)
    }

    async fn answer(&mut self, message: AppMsg) -> Result<(), ConsensusError> {
        match message {
            AppMsg::ConsensusReady { reply } => {
                info!(height = %self.tip().next(), "consensus begins");
                let _ = reply.send(self.start_of_height());
            }
            AppMsg::StartedRound { height, round, proposer, reply_value, .. } => {
                debug!(%height, %round, %proposer, "round begins");
                if round.as_u32() > Some(0) {
                    info!(%height, %round, %proposer, "the round before failed");
                }
                let values = self.early_values(Height(height.0), round)?;
                let _ = reply_value.send(values);
            }
            AppMsg::GetValue { height, round, reply, .. } => self.propose(height, round, reply).await?,
            AppMsg::RestreamProposal { height, round, valid_round, value_id, .. } => {
                match self.body(Height(height.0), &value_id)? {
                    Some(body) => self.publish(Height(height.0), round, valid_round, &body).await,
                    None => warn!(%height, %value_id, "a proposal to be sent again is not here"),
                }
            }
            AppMsg::ReceivedProposalPart { from, published_by, part, reply } => {
                let publisher = published_by.unwrap_or(from).to_bytes();
                let value = match self.assembler.insert(&publisher, part) {
                    Some(streamed) => self.receive(streamed)?,
                    None => None,
                };
                let _ = reply.send(value);
            }
            AppMsg::Decided { certificate, reply, .. } => {
                self.decided(&certificate)?;
                let _ = reply.send(());
            }
            AppMsg::Finalized { certificate, evidence, reply, .. } => {
                if !evidence.is_empty() {
                    error!(height = %certificate.height, ?evidence, "a validator signed two different things");
                }
                self.keep_fuller(&certificate)?;
                self.held = Some(Held { reply, decided: now() });
            }
            AppMsg::GetHistoryMinHeight { reply } => {
                let _ = reply.send(BlockHeight(1));
            }
            AppMsg::GetDecidedValues { range, reply } => {
                let values = self.decided_values(range.start().0, range.end().0)?;
                let _ = reply.send(values);
            }
            AppMsg::ProcessSyncedValue { height, round, proposer, value_bytes, reply } => {
                let outcome = self.synced(Height(height.0), round, proposer, &value_bytes)?;
                let _ = reply.send(outcome);
            }
            // Extensions are off: there are none to make and none to verify.
            AppMsg::ExtendVote { reply, .. } => {
                let _ = reply.send(None);
            }
            AppMsg::VerifyVoteExtensions { extensions, reply, .. } => {
                let _ = reply.send(extensions.into_iter().map(|(address, ())| (address, Ok(()))).collect());
            }
        }
        Ok(())
    }

    /// Notes how far the others are.
    fn hear(&mut self, event: Result<Event, broadcast::error::RecvError>) {
        let Ok(Event::Received(SignedConsensusMsg::Vote(vote))) = event else { return };
        // The engine reports votes before it checks signatures: they may wake us, and no more.
        if vote.height.0 <= self.tip().0 + VOTE_HEIGHTS && self.shared.validators.contains(&vote.validator.0) {
            self.peer_height = self.peer_height.max(vote.height.0);
        }
    }

    /// Lets the engine go on where there is a reason to.
    fn begin_next_height(&mut self) {
        let Some(held) = &self.held else { return };
        let ledger = self.shared.read();
        let (clock, mempool) = (now(), &self.shared.mempool);
        let next = ledger.height().next();
        let moment = Moment {
            now: clock,
            block: ledger.time(),
            decided: held.decided,
            idle_ms: ledger.params().idle_block_ms,
            transaction_ready: mempool.len() > 0 && mempool.has_ready(&ledger),
            price_due: ledger.price_due(clock.max(ledger.time().plus(1)), &ledger.tip()).is_some(),
            peer_proposed: !self.candidates.is_empty() || self.future.keys().any(|(height, _)| *height == next),
            peer_voted: self.peer_height >= next.0,
        };
        drop(ledger);
        if pace::begins(&moment)
            && let Some(held) = self.held.take()
        {
            let (height, params) = self.start_of_height();
            let _ = held.reply.send(Next::Start(height, params));
        }
    }

    /// Proposes: the same as before where this node proposed in this round already.
    async fn propose(
        &mut self,
        height: BlockHeight,
        round: Round,
        reply: Reply<LocallyProposedValue>,
    ) -> Result<(), ConsensusError> {
        let (at, number) = (Height(height.0), round.as_u32().unwrap_or(0));
        if at != self.tip().next() {
            error!(%height, tip = %self.tip(), "asked to propose for another height than the next");
            return Ok(()); // no answer: the round ends by its timeout
        }
        let before = match self.shared.store.proposed(at, number)? {
            Some(hash) => self.body(at, &hash)?.map(|body| (hash, body)),
            None => None,
        };
        let (hash, body) = match before {
            Some(before) => before,
            None => {
                let candidate = self.build();
                let (hash, body) = (candidate.hash(), candidate.bytes().to_vec());
                self.shared.store.put_proposed(at, number, &hash, &body)?;
                self.keep(candidate);
                (hash, body)
            }
        };
        let _ = reply.send(LocallyProposedValue::new(height, round, Value(hash)));
        self.publish(at, round, Round::Nil, &body).await;
        Ok(())
    }

    fn build(&self) -> Candidate {
        let shared = &self.shared;
        let ledger = shared.read();
        let parent = Parent { ledger: &ledger, state_root: self.state_root(), clock: None };
        let candidate = build(&parent, &shared.key, now(), &shared.mempool);
        match &self.tamper {
            Some(tamper) => tampered(candidate, tamper, &shared.key),
            None => candidate,
        }
    }

    /// Sends a block's parts to the other validators.
    async fn publish(&mut self, height: Height, round: Round, valid_round: Round, body: &[u8]) {
        self.stream.1 += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.stream.0.to_be_bytes());
        id[8..].copy_from_slice(&self.stream.1.to_be_bytes());
        let chain = self.shared.read().chain();
        for message in split(&self.shared.key, &chain, (height, round, valid_round), body, id) {
            if self.network.send(NetworkMsg::PublishProposalPart(message)).await.is_err() {
                return; // the engine ended; the loop hears of it
            }
        }
    }

    /// A whole proposal came. Gives the engine a value where there is a verdict.
    fn receive(&mut self, streamed: Streamed) -> Result<Option<ProposedValue>, ConsensusError> {
        let (height, next) = (streamed.height, self.tip().next());
        if height < next || height.0 > next.0 + FUTURE_HEIGHTS {
            return Ok(None);
        }
        let expected = streamed.round.as_u32().map(|round| self.shared.validators.proposer(height.0, round));
        if expected != Some(streamed.proposer) || !streamed.is_signed(&self.shared.read().chain()) {
            warn!(%height, round = %streamed.round, proposer = %streamed.proposer, "a proposal by nobody who may propose");
            return Ok(None);
        }
        if height > next {
            // Can't tell yet: kept, not refused.
            let held: usize = self.future.values().map(|streamed| streamed.bytes.len()).sum();
            if held + streamed.bytes.len() <= FUTURE_BYTES {
                self.future.insert((height, Hash::of(&streamed.bytes)), streamed);
            }
            return Ok(None);
        }
        self.judge(&streamed)
    }

    /// Validates a proposal for the next height. A valid one is on disk before the engine hears of it.
    fn judge(&mut self, streamed: &Streamed) -> Result<Option<ProposedValue>, ConsensusError> {
        let (hash, validity) = match self.check(&streamed.bytes, Some(now())) {
            Ok(candidate) => {
                // A fresh proposal is its proposer's own; one that is proposed again names who built it.
                let builder = candidate.block().header.proposer;
                if streamed.valid_round == Round::Nil && builder != streamed.proposer {
                    warn!(height = %streamed.height, %builder, proposer = %streamed.proposer, "a proposal in another's name");
                    return Ok(None);
                }
                let hash = candidate.hash();
                if !self.candidates.contains_key(&hash) {
                    self.persist(&candidate)?;
                    self.keep(candidate);
                }
                (hash, Validity::Valid)
            }
            Err(invalid) => {
                warn!(
                    height = %streamed.height, round = %streamed.round, proposer = %streamed.proposer,
                    "a proposal is voted down: {invalid}"
                );
                let Ok(block) = decode::<Block>(&streamed.bytes) else { return Ok(None) };
                (block.hash(), Validity::Invalid)
            }
        };
        let (round, valid_round) = (streamed.round, streamed.valid_round);
        Ok(Some(proposed(streamed.height, round, valid_round, Address(streamed.proposer), hash, validity)))
    }

    fn check(&self, bytes: &[u8], clock: Option<TimeMs>) -> Result<Candidate, InvalidBlock> {
        let ledger = self.shared.read();
        let parent = Parent { ledger: &ledger, state_root: self.state_root(), clock };
        validate(bytes, &parent, |id| self.shared.mempool.get(id))
    }

    fn persist(&self, candidate: &Candidate) -> Result<(), ConsensusError> {
        let (store, height) = (&self.shared.store, candidate.block().header.height);
        let kept = store.undecided_hashes(height)?;
        if kept.len() >= MAX_CANDIDATES
            && !kept.contains(&candidate.hash())
            && let Some(oldest) = kept.iter().find(|hash| !self.candidates.contains_key(hash))
        {
            // Only a long fight over one height comes here; whoever is locked on the dropped one sends it again.
            store.delete_undecided(height, oldest)?;
        }
        Ok(store.put_undecided(height, &candidate.hash(), candidate.bytes())?)
    }

    fn keep(&mut self, candidate: Candidate) {
        if self.candidates.len() >= MAX_CANDIDATES {
            // The earliest block; it stays on disk.
            let earliest = self.candidates.values().min_by_key(|c| c.block().header.time).map(Candidate::hash);
            if let Some(hash) = earliest {
                self.candidates.remove(&hash);
            }
        }
        self.candidates.insert(candidate.hash(), candidate);
    }

    /// A proposal's bytes, from memory or disk.
    fn body(&self, height: Height, hash: &Hash) -> Result<Option<Vec<u8>>, ConsensusError> {
        match self.candidates.get(hash) {
            Some(candidate) => Ok(Some(candidate.bytes().to_vec())),
            None => Ok(self.shared.store.undecided(height, hash)?),
        }
    }

    /// Values for a height that begins: proposals that came too early, and after a crash those that were on disk.
    fn early_values(&mut self, height: Height, round: Round) -> Result<Vec<ProposedValue>, ConsensusError> {
        let mut values = Vec::new();
        if height != self.tip().next() {
            return Ok(values);
        }
        while let Some(key) = self.future.keys().find(|(of, _)| *of <= height).copied() {
            let streamed = self.future.remove(&key).expect("just found");
            if key.0 == height {
                values.extend(self.judge(&streamed)?);
            }
        }
        if !std::mem::replace(&mut self.recovered, true) {
            for hash in self.shared.store.undecided_hashes(height)? {
                let Some(body) = self.shared.store.undecided(height, &hash)? else { continue };
                if let Ok(candidate) = self.check(&body, None) {
                    let proposer = Address(candidate.block().header.proposer);
                    values.push(proposed(height, round, Round::Nil, proposer, hash, Validity::Valid));
                    self.keep(candidate);
                }
            }
        }
        Ok(values)
    }

    /// Commits a decided block.
    fn decided(&mut self, certificate: &CommitCertificate) -> Result<(), ConsensusError> {
        let (height, hash) = (Height(certificate.height.0), certificate.value_id);
        if height <= self.tip() {
            return Ok(()); // decided again after a restart: it is here
        }
        let candidate = match self.candidates.remove(&hash) {
            Some(candidate) => candidate,
            None => {
                let body = self.shared.store.undecided(height, &hash)?;
                let body = body.ok_or(ConsensusError::MissingBody { height, hash })?;
                let invalid = |e: InvalidBlock| ConsensusError::DecidedInvalid { height, hash, reason: e.to_string() };
                self.check(&body, None).map_err(invalid)?
            }
        };
        let committed = commit(&self.shared, candidate, stored_certificate(certificate))?;
        self.candidates.clear();
        self.future.retain(|(of, _), _| *of > height);
        self.recovered = true;
        info!(
            %height, round = %certificate.round, transactions = committed.results.len(), hash = %committed.hash,
            "block committed"
        );
        Ok(())
    }

    /// Keeps a certificate with more signatures than the one that the block was committed with.
    fn keep_fuller(&self, certificate: &CommitCertificate) -> Result<(), ConsensusError> {
        let height = Height(certificate.height.0);
        let stored = self.shared.store.certificate(height)?;
        if stored.is_some_and(|stored| stored.signers.len() < certificate.commit_signatures.len()) {
            self.shared.store.put_certificate(height, &stored_certificate(certificate))?;
        }
        Ok(())
    }

    /// Decided blocks for a peer that catches up: without gaps from `start`, as many as fit.
    fn decided_values(&self, start: u64, end: u64) -> Result<Vec<RawDecidedValue>, ConsensusError> {
        let (mut values, mut bytes) = (Vec::new(), 0);
        for height in start.max(1)..=end.min(self.tip().0) {
            let Some(block) = self.shared.store.block(Height(height))? else { break };
            let body = encode(&block.block);
            bytes += body.len() + block.certificate.bytes.len();
            if bytes > SYNC_BYTES && !values.is_empty() {
                break;
            }
            let damaged = |e: &dyn std::fmt::Display| ConsensusError::Store(format!("the certificate of block {height}: {e}"));
            let form = decode(&block.certificate.bytes).map_err(|e| damaged(&e))?;
            let certificate = ExtendedCommitCertificate::from_form(form).map_err(|e| damaged(&e))?;
            values.push(RawDecidedValue::new(body.into(), certificate));
        }
        Ok(values)
    }

    /// A block that others decided: its certificate is checked by the engine, everything else here.
    fn synced(
        &mut self,
        height: Height,
        round: Round,
        proposer: Address,
        bytes: &[u8],
    ) -> Result<SyncedValueOutcome, ConsensusError> {
        if height != self.tip().next() {
            return Ok(SyncedValueOutcome::LocalTransientError);
        }
        let (hash, validity) = match self.check(bytes, None) {
            Ok(candidate) => {
                let hash = candidate.hash();
                self.persist(&candidate)?;
                self.keep(candidate);
                (hash, Validity::Valid)
            }
            Err(InvalidBlock::Form(_)) => return Ok(SyncedValueOutcome::PeerFault),
            Err(invalid) => {
                // Where its certificate is of these very bytes, a quorum finds right what we find wrong.
                error!(%height, "a decided block is wrong by this node's rules: {invalid}");
                let Ok(block) = decode::<Block>(bytes) else { return Ok(SyncedValueOutcome::PeerFault) };
                (block.hash(), Validity::Invalid)
            }
        };
        Ok(SyncedValueOutcome::Verdict(proposed(height, round, Round::Nil, proposer, hash, validity)))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }
}

fn proposed(
    height: Height,
    round: Round,
    valid_round: Round,
    proposer: Address,
    hash: Hash,
    validity: Validity,
) -> ProposedValue {
    ProposedValue { height: BlockHeight(height.0), round, valid_round, proposer, value: Value(hash), validity }
}

fn stored_certificate(certificate: &CommitCertificate) -> Certificate {
    let mut signers: Vec<PublicKey> = certificate.commit_signatures.iter().map(|s| s.address.0).collect();
    signers.sort();
    Certificate { round: certificate.round.as_u32().unwrap_or(0), signers, bytes: encode(&certificate.to_form()) }
}
