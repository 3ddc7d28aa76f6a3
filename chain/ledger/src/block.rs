use std::collections::BTreeSet;

use deepmarket_types::{
    AccountId, Action, Event, Hash, Header, Height, MAX_BLOCK_BYTES, MachineId, PublicKey, SlotPrices, TimeMs, TransactionResult,
    VerifiedTransaction, encode,
};

use crate::{Ledger, Rejection, StateKey, Writes, change::Change};

/// How far ahead of its turn a transaction may wait in a mempool.
const MAX_NONCE_GAP: u64 = 64;

/// A block that can't follow on this ledger: a proposal to be voted down. It never concerns a single account's rights: a
/// transaction that is merely against the rules of the market is part of a valid block, as a rejection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// A format that this release doesn't know.
    #[error("block version {0} is not known to this release")]
    UnknownVersion(u8),
    /// The block is of another chain.
    #[error("the block is of the chain {0}")]
    WrongChain(Hash),
    /// Not the next height.
    #[error("the block's height is {given}; the next one is {expected}")]
    WrongHeight {
        /// The block's.
        given: Height,
        /// The next one.
        expected: Height,
    },
    /// Not the child of the last block.
    #[error("the block's parent is {given}, the last block is {expected}")]
    WrongParent {
        /// The block's.
        given: Hash,
        /// The last block.
        expected: Hash,
    },
    /// Time stands still or goes back.
    #[error("the block's time of {} ms is not after its parent's {} ms", given.0, parent.0)]
    TimeNotLater {
        /// The block's.
        given: TimeMs,
        /// The last block's.
        parent: TimeMs,
    },
    /// The proposer is no validator.
    #[error("{0} is not a validator")]
    UnknownProposer(PublicKey),
    /// The link of the beacon isn't the proposer's next one.
    #[error("the block's link of the beacon is not the next one of {0}")]
    WrongLink(PublicKey),
    /// The block is too long.
    #[error("the block's transactions have {bytes} bytes; at most {MAX_BLOCK_BYTES} are allowed")]
    TooLong {
        /// Their length.
        bytes: usize,
    },
    /// The header is of other transactions.
    #[error("the header's hash of the transactions is of others")]
    WrongTransactions,
    /// One transaction twice.
    #[error("the block has the transaction {0} twice")]
    DuplicateTransaction(Hash),
    /// The day's prices are due and the first transaction doesn't set them.
    #[error("the block must open with the prices of day {0}")]
    PricesMissing(u64),
    /// A `Price` transaction where none is due, or not in the first place.
    #[error("transaction {0} sets prices that are not due")]
    PricesNotDue(usize),
    /// Other prices than those that every validator computes.
    #[error("the prices of day {0} are not those that follow from the parent block")]
    WrongPrices(u64),
    /// The prices are signed by another than the proposer, or carry a nonce, or expired.
    #[error("the prices are not signed by the block's proposer with number 0 for this height")]
    PricesNotByProposer,
}

/// What a block did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// One for each transaction, in order.
    pub results: Vec<TransactionResult>,
    /// What changed, in words, in order.
    pub events: Vec<Event>,
    /// The entries that changed.
    pub writes: Writes,
}

/// Who signed a transaction, once that is known.
enum Signer {
    Account(AccountId),
    Machine(MachineId),
    /// `OpenAccount` and `Receipt`: the action says who may sign.
    ByAction,
}

impl Ledger {
    /// The ledger's part of checking a proposal. Order: version, chain, height, parent, time later than the parent's, proposer,
    /// link of the beacon, length, hash of the transactions, no transaction twice, and the rules of prices: exactly the due ones, first, signed by
    /// the proposer; none otherwise.
    ///
    /// The state root, how far the time may be ahead of clocks, and signatures are checked by the host of consensus.
    pub fn check_block(&self, header: &Header, transactions: &[VerifiedTransaction]) -> Result<(), BlockError> {
        if header.version != Header::VERSION {
            return Err(BlockError::UnknownVersion(header.version));
        }
        if header.chain != self.chain() {
            return Err(BlockError::WrongChain(header.chain));
        }
        if header.height != self.height().next() {
            return Err(BlockError::WrongHeight { given: header.height, expected: self.height().next() });
        }
        if header.parent != self.tip() {
            return Err(BlockError::WrongParent { given: header.parent, expected: self.tip() });
        }
        if header.time <= self.time() {
            return Err(BlockError::TimeNotLater { given: header.time, parent: self.time() });
        }
        if !self.validators().contains(&header.proposer) {
            return Err(BlockError::UnknownProposer(header.proposer));
        }
        self.check_link(header)?;
        let bytes = transactions.iter().map(VerifiedTransaction::byte_len).sum();
        if bytes > MAX_BLOCK_BYTES {
            return Err(BlockError::TooLong { bytes });
        }
        let ids: Vec<Hash> = transactions.iter().map(VerifiedTransaction::id).collect();
        if header.transactions != Hash::tagged("deepmarket/v1/transactions", &[&encode(&ids)]) {
            return Err(BlockError::WrongTransactions);
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = ids.iter().find(|id| !seen.insert(**id)) {
            return Err(BlockError::DuplicateTransaction(*twice));
        }
        self.check_prices(header, transactions)
    }

    fn check_prices(&self, header: &Header, transactions: &[VerifiedTransaction]) -> Result<(), BlockError> {
        let first = transactions.first().map(VerifiedTransaction::body);
        let given: Option<&SlotPrices> = first.and_then(|body| match &body.action {
            Action::Price(prices) => Some(prices),
            _ => None,
        });
        let others = &transactions[usize::from(given.is_some()).min(transactions.len())..];
        let is_price = |transaction: &VerifiedTransaction| matches!(transaction.body().action, Action::Price(_));
        if let Some(at) = others.iter().position(is_price) {
            return Err(BlockError::PricesNotDue(at + usize::from(given.is_some())));
        }
        match (self.price_due(header.time, &header.parent), given, first) {
            (None, None, _) => Ok(()),
            (None, Some(_), _) => Err(BlockError::PricesNotDue(0)),
            (Some(due), Some(given), Some(body)) => {
                if *given != due {
                    return Err(BlockError::WrongPrices(due.day));
                }
                if body.signer != header.proposer || body.nonce != 0 || body.expires < header.height {
                    return Err(BlockError::PricesNotByProposer);
                }
                Ok(())
            }
            (Some(due), ..) => Err(BlockError::PricesMissing(due.day)),
        }
    }

    /// Applies a decided block.
    ///
    /// # Panics
    ///
    /// Where the block fails [`Ledger::check_block`] (more than a third of the validators are faulty, or this one is) and where
    /// an invariant is broken. The process must end then: what was computed must never be stored.
    pub fn apply(&mut self, header: &Header, transactions: &[VerifiedTransaction]) -> Applied {
        if let Err(error) = self.check_block(header, transactions) {
            panic!("block {} was decided but can't follow on block {}: {error}", header.height, self.height());
        }
        let slots = self.params().slots;
        // Other prices, and other jobs may start.
        let next_slot = self.height().0 == 0 || slots.slot_at(self.time()) != slots.slot_at(header.time);
        self.rematch |= next_slot;
        let step_ms = header.time.since(self.time()).min(self.params().contact_step_ms);
        self.statistics.today = self.flows_until(header.time);
        self.tip.height = header.height;
        self.tip.time = header.time;
        self.tip.block = header.hash();
        self.tip.contact_clock_ms += step_ms;

        let mut change = Change::new(self, header);
        change.touch(StateKey::Tip);
        change.touch(StateKey::Statistics);
        let draws = change.mix_beacon();
        let due_offers = change.due_offers();
        let results = transactions.iter().map(|transaction| change.transaction(transaction)).collect();
        change.move_offers(&due_offers);
        if next_slot {
            change.reprice_offers();
        }
        change.lose_silent_machines();
        change.move_audits(&draws);
        change.drop_outvoted();
        change.let_join();
        change.tell_members();
        change.forget_void_invites();
        change.stop_exhausted_jobs();
        change.vest_windows();
        change.give_audits();
        change.match_jobs();
        if let Err(broken) = change.ledger.check_touched(change.touched()) {
            panic!("invariant broken in block {}: {broken}; this validator stops rather than guess", header.height);
        }
        let (events, writes) = change.finish();
        Applied { results, events, writes }
    }

    /// Would the transaction be accepted in the next block? For mempools: its nonce may be a little ahead of its turn, and then
    /// only its signer is checked, because those before it may make it right.
    pub fn precheck(&self, transaction: &VerifiedTransaction) -> Result<(), Rejection> {
        let body = transaction.body();
        let signer = match self.check_signer(transaction, self.height().next()) {
            Err(Rejection::NonceAhead { given, expected }) if given - expected <= MAX_NONCE_GAP => return Ok(()),
            other => other?,
        };
        // The next block's time isn't known; it is a little later than this.
        let now = self.time().plus(1);
        match (&body.action, signer) {
            (Action::OpenAccount { voucher }, _) => self.check_open(&body.signer, voucher, now),
            (Action::Receipt(receipt), _) => self.precheck_receipt(&body.signer, receipt),
            (Action::Transfer { to, amount }, Signer::Account(id)) => self.check_transfer(id, *to, *amount),
            (Action::RegisterMachine { machine_key, config, .. }, Signer::Account(id)) => {
                self.check_register(id, machine_key, config)
            }
            (Action::Lend { machine, offer, .. }, Signer::Account(id)) => self.check_lend(id, *machine, offer, now),
            (Action::Invite { code, offer, expires }, Signer::Account(id)) => self.check_invite(id, code, offer, *expires, now),
            (Action::Join { code, config, .. }, _) => self.check_join(&body.signer, code, config, now).map(drop),
            (Action::Withdraw { machine, .. }, Signer::Account(id)) => self.check_withdraw(id, *machine),
            (Action::Borrow { spec }, Signer::Account(id)) => self.check_borrow(id, spec, now).map(drop),
            (Action::Cancel { job }, Signer::Account(id)) => self.check_cancel(id, *job),
            (Action::Heartbeat { .. }, Signer::Machine(_)) => Ok(()),
            (Action::Disclose(disclosure), _) => self.check_disclose(&body.signer, disclosure).map(drop),
            (Action::Commit { audit, .. }, _) => self.check_commit(&body.signer, *audit).map(drop),
            (Action::Reveal { audit, outcome, salt }, _) => self.check_reveal(&body.signer, *audit, outcome, salt).map(drop),
            (Action::Trace { audit, trace, state }, _) => self.check_trace(&body.signer, *audit, trace, state).map(drop),
            (Action::Judge { audit, .. }, _) => self.check_judge(&body.signer, *audit),
            (Action::Price(_), _) => Err(Rejection::PriceNotDue),
            (Action::Heartbeat { .. }, _) | (_, Signer::Machine(_) | Signer::ByAction) => {
                unreachable!("check_signer finds a machine for heartbeats and accounts for these actions")
            }
        }
    }

    /// The checks that come before all others: expiry, a known signer, the nonce.
    fn check_signer(&self, transaction: &VerifiedTransaction, height: Height) -> Result<Signer, Rejection> {
        let body = transaction.body();
        if height > body.expires {
            return Err(Rejection::Expired { expires: body.expires, height });
        }
        let (signer, expected) = match &body.action {
            Action::OpenAccount { .. }
            | Action::Receipt(_)
            | Action::Price(_)
            | Action::Join { .. }
            | Action::Disclose(_)
            | Action::Commit { .. }
            | Action::Reveal { .. }
            | Action::Trace { .. }
            | Action::Judge { .. } => {
                return if body.nonce == 0 { Ok(Signer::ByAction) } else { Err(Rejection::NonceNotZero(body.nonce)) };
            }
            Action::Heartbeat { .. } => {
                let machine = self.machine_of_key(&body.signer);
                let machine = machine.ok_or_else(|| Rejection::UnknownMachine(MachineId::from_key(&body.signer)))?;
                (Signer::Machine(machine.id), machine.nonce)
            }
            Action::Transfer { .. }
            | Action::RegisterMachine { .. }
            | Action::Lend { .. }
            | Action::Withdraw { .. }
            | Action::Invite { .. }
            | Action::Borrow { .. }
            | Action::Cancel { .. } => {
                let account = self.account_of_key(&body.signer).ok_or(Rejection::UnknownAccount(body.signer))?;
                (Signer::Account(account.id), account.nonce)
            }
        };
        match body.nonce.cmp(&expected) {
            std::cmp::Ordering::Less => Err(Rejection::NonceUsed { given: body.nonce, expected }),
            std::cmp::Ordering::Greater => Err(Rejection::NonceAhead { given: body.nonce, expected }),
            std::cmp::Ordering::Equal => Ok(signer),
        }
    }
}

impl Change<'_> {
    fn transaction(&mut self, transaction: &VerifiedTransaction) -> TransactionResult {
        let before = self.events.len();
        let result = self.try_transaction(transaction);
        let (code, message) = match &result {
            Ok(()) => (0, String::new()),
            Err(rejection) => (rejection.code(), rejection.message()),
        };
        TransactionResult { id: transaction.id(), code, message, events: (self.events.len() - before) as u32 }
    }

    fn try_transaction(&mut self, transaction: &VerifiedTransaction) -> Result<(), Rejection> {
        let signer = self.ledger.check_signer(transaction, self.header.height)?;
        // From here on the nonce is used, whatever the rules say: see the crate's documentation.
        match signer {
            Signer::Account(id) => self.account(id).nonce += 1,
            Signer::Machine(id) => self.machine(id, |machine| machine.nonce += 1),
            Signer::ByAction => {}
        }
        let body = transaction.body();
        match (&body.action, signer) {
            (Action::OpenAccount { voucher }, _) => self.open(&body.signer, voucher),
            (Action::Receipt(receipt), _) => self.receipt(&body.signer, receipt),
            (Action::Transfer { to, amount }, Signer::Account(id)) => self.transfer(id, *to, *amount),
            (Action::RegisterMachine { machine_key, config, .. }, Signer::Account(id)) => self.register(id, machine_key, config),
            (Action::Lend { machine, offer, mode }, Signer::Account(id)) => self.lend(id, *machine, *offer, *mode),
            (Action::Invite { code, offer, expires }, Signer::Account(id)) => self.invite(id, *code, *offer, *expires),
            (Action::Join { code, config, .. }, _) => self.join(&body.signer, *code, config),
            (Action::Withdraw { machine, mode }, Signer::Account(id)) => self.withdraw(id, *machine, *mode),
            (Action::Borrow { spec }, Signer::Account(id)) => self.borrow(id, spec),
            (Action::Cancel { job }, Signer::Account(id)) => self.cancel(id, *job),
            (Action::Heartbeat { addresses }, Signer::Machine(id)) => {
                self.heartbeat(id, addresses.as_deref());
                Ok(())
            }
            (Action::Disclose(disclosure), _) => self.disclose(&body.signer, disclosure),
            (Action::Commit { audit, finding }, _) => self.commit(&body.signer, *audit, *finding),
            (Action::Reveal { audit, outcome, salt }, _) => self.reveal(&body.signer, *audit, outcome, salt),
            (Action::Trace { audit, trace, state }, _) => self.trace(&body.signer, *audit, trace, *state),
            (Action::Judge { audit, step }, _) => self.judge(&body.signer, *audit, *step),
            (Action::Price(prices), _) => {
                // The block was checked: these are the due ones.
                self.set_prices(*prices);
                Ok(())
            }
            (Action::Heartbeat { .. }, _) | (_, Signer::Machine(_) | Signer::ByAction) => {
                unreachable!("check_signer finds a machine for heartbeats and accounts for these actions")
            }
        }
    }
}
