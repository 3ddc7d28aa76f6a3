//! The ledger alone, fed with blocks as a validator would feed it: no network, no disk, no clock but the one that the caller
//! gives. What the simulation and the matching benchmark run on.

use deepmarket_ledger::{Applied, GenesisState, Ledger};
use deepmarket_types::{Action, Block, Hash, Header, Height, PublicKey, SecretKey, TimeMs, TransactionBody, VerifiedTransaction};

/// Makes a transaction that the ledger accepts as checked: by signing and verifying it, or, in tests, by trusting it.
pub type Seal = Box<dyn Fn(TransactionBody) -> VerifiedTransaction>;

/// A chain of one imagined validator, or of several that take turns.
pub struct VirtualChain {
    /// The state after the last block.
    pub ledger: Ledger,
    seal: Seal,
    /// The validators' keys, in the order of their turns, where they feed the beacon.
    validators: Vec<SecretKey>,
}

impl VirtualChain {
    /// A chain at height 0.
    pub fn new(genesis: &GenesisState, seal: Seal) -> VirtualChain {
        let (ledger, _) = Ledger::genesis(genesis);
        VirtualChain { ledger, seal, validators: Vec::new() }
    }

    /// A chain at height 0 whose validators (those of the genesis) show their links of the beacon.
    pub fn with_beacon(genesis: &GenesisState, mut validators: Vec<SecretKey>, seal: Seal) -> VirtualChain {
        validators.sort_unstable_by_key(SecretKey::public);
        VirtualChain { validators, ..VirtualChain::new(genesis, seal) }
    }

    /// Who proposes the next block, and the link that it shows.
    fn proposer(&self) -> (PublicKey, Hash) {
        match self.validators.len() as u64 {
            0 => (self.ledger.validators()[0], Hash::default()),
            count => {
                let key = &self.validators[(self.ledger.height().next().0 % count) as usize];
                (key.public(), self.ledger.next_link(key))
            }
        }
    }

    /// A transaction with the nonce that is due after `before` others of the same signer in the same block.
    pub fn transaction(&self, signer: PublicKey, before: u64, action: Action) -> VerifiedTransaction {
        self.transaction_until(signer, before, action, Height(u64::MAX))
    }

    /// [`VirtualChain::transaction`] that may be applied up to a height.
    pub fn transaction_until(&self, signer: PublicKey, before: u64, action: Action, expires: Height) -> VerifiedTransaction {
        let nonce = match &action {
            Action::OpenAccount { .. }
            | Action::Receipt(_)
            | Action::Price(_)
            | Action::Join { .. }
            | Action::Disclose(_)
            | Action::Commit { .. }
            | Action::Reveal { .. }
            | Action::Trace { .. }
            | Action::Judge { .. } => 0,
            Action::Heartbeat { .. } => before + self.ledger.machine_of_key(&signer).map_or(0, |machine| machine.nonce),
            _ => before + self.ledger.account_of_key(&signer).map_or(0, |account| account.nonce),
        };
        (self.seal)(TransactionBody { signer, nonce, expires, action })
    }

    /// The header and the transactions of the next block, opened by prices where they are due.
    pub fn block(&self, time: TimeMs, transactions: Vec<VerifiedTransaction>) -> (Header, Vec<VerifiedTransaction>) {
        let (proposer, link) = self.proposer();
        let due = self.ledger.price_due(time, &self.ledger.tip());
        let prices = due.map(|prices| self.transaction(proposer, 0, Action::Price(prices)));
        let transactions: Vec<VerifiedTransaction> = prices.into_iter().chain(transactions).collect();
        let header = Header {
            version: Header::VERSION,
            chain: self.ledger.chain(),
            height: self.ledger.height().next(),
            time,
            parent: self.ledger.tip(),
            state_root: Hash::default(),
            transactions: Block::transactions_hash(transactions.iter().map(VerifiedTransaction::transaction)),
            proposer,
            link,
        };
        (header, transactions)
    }

    /// Applies a block of transactions, some of which may be rejected. Tells the results of these alone.
    pub fn try_apply(&mut self, time: TimeMs, transactions: Vec<VerifiedTransaction>) -> Applied {
        let given = transactions.len();
        let (header, transactions) = self.block(time, transactions);
        let mut applied = self.ledger.apply(&header, &transactions);
        applied.results.drain(..transactions.len() - given);
        applied
    }

    /// Applies a block of transactions that must all succeed.
    pub fn apply(&mut self, time: TimeMs, transactions: Vec<VerifiedTransaction>) -> Applied {
        let (header, transactions) = self.block(time, transactions);
        let applied = self.ledger.apply(&header, &transactions);
        for (result, transaction) in applied.results.iter().zip(&transactions) {
            assert_eq!(result.code, 0, "{:?} was rejected: {}", transaction.body().action, result.message);
        }
        applied
    }
}
