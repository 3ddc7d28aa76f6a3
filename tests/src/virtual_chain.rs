//! The ledger alone, fed with blocks as a validator would feed it: no network, no disk, no clock but the one that the caller
//! gives. What the simulation and the matching benchmark run on.

use deepmarket_ledger::{Applied, GenesisState, Ledger};
use deepmarket_types::{Action, Block, Hash, Header, Height, PublicKey, TimeMs, TransactionBody, VerifiedTransaction};

/// Makes a transaction that the ledger accepts as checked: by signing and verifying it, or, in tests, by trusting it.
pub type Seal = Box<dyn Fn(TransactionBody) -> VerifiedTransaction>;

/// A chain of one imagined validator.
pub struct VirtualChain {
    /// The state after the last block.
    pub ledger: Ledger,
    seal: Seal,
}

impl VirtualChain {
    /// A chain at height 0.
    pub fn new(genesis: &GenesisState, seal: Seal) -> VirtualChain {
        let (ledger, _) = Ledger::genesis(genesis);
        VirtualChain { ledger, seal }
    }

    /// A transaction with the nonce that is due after `before` others of the same signer in the same block.
    pub fn transaction(&self, signer: PublicKey, before: u64, action: Action) -> VerifiedTransaction {
        let nonce = match &action {
            Action::OpenAccount { .. } | Action::Receipt(_) | Action::Price(_) | Action::Join { .. } => 0,
            Action::Heartbeat { .. } => before + self.ledger.machine_of_key(&signer).map_or(0, |machine| machine.nonce),
            _ => before + self.ledger.account_of_key(&signer).map_or(0, |account| account.nonce),
        };
        (self.seal)(TransactionBody { signer, nonce, expires: Height(u64::MAX), action })
    }

    /// The header and the transactions of the next block, opened by prices where they are due.
    pub fn block(&self, time: TimeMs, transactions: Vec<VerifiedTransaction>) -> (Header, Vec<VerifiedTransaction>) {
        let proposer = self.ledger.validators()[0];
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
            link: Hash::default(),
        };
        (header, transactions)
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
