use std::sync::Arc;

use deepmarket_types::{Action, Block, Header, MAX_BLOCK_BYTES, SecretKey, TimeMs, Transaction, VerifiedTransaction};

use crate::{
    candidate::Candidate,
    mempool::Mempool,
    validate::{MAX_TRANSACTIONS, Parent},
};

/// Changes a block before it is proposed, to play a faulty validator in tests.
pub type Tamper = Arc<dyn Fn(&mut Block, &SecretKey) + Send + Sync>;

/// Builds the block that this validator proposes on `parent`: the day's prices where they are due, then transactions of the
/// mempool in order of arrival.
pub fn build(parent: &Parent<'_>, key: &SecretKey, now: TimeMs, mempool: &Mempool) -> Candidate {
    let ledger = parent.ledger;
    let (chain, height) = (ledger.chain(), ledger.height().next());
    // Clocks of validators differ: a block's time is after its parent's whatever this one's says.
    let time = now.max(ledger.time().plus(1));
    let prices = ledger.price_due(time, &ledger.tip()).map(|prices| {
        let transaction = Transaction::sign(key, &chain, 0, height, Action::Price(prices));
        transaction.verify(&chain).expect("what this node signs is well-formed")
    });
    let mut transactions: Vec<VerifiedTransaction> = prices.into_iter().collect();
    let room = MAX_BLOCK_BYTES - transactions.iter().map(VerifiedTransaction::byte_len).sum::<usize>();
    let waiting = mempool.select(ledger, MAX_TRANSACTIONS - transactions.len(), room);
    transactions.extend(waiting.iter().map(|transaction| (**transaction).clone()));

    let bodies: Vec<Transaction> = transactions.iter().map(|t| t.transaction().clone()).collect();
    let header = Header {
        version: Header::VERSION,
        chain,
        height,
        time,
        parent: ledger.tip(),
        state_root: parent.state_root,
        transactions: Block::transactions_hash(&bodies),
        proposer: key.public(),
        link: ledger.next_link(key),
    };
    Candidate::new(Block { header, transactions: bodies }, transactions)
}

/// Applies a test's [`Tamper`].
pub fn tampered(candidate: Candidate, tamper: &Tamper, key: &SecretKey) -> Candidate {
    let transactions = candidate.transactions().to_vec();
    let mut block = candidate.into_block();
    let before = block.transactions.clone();
    tamper(&mut block, key);
    if block.transactions != before {
        block.header.transactions = Block::transactions_hash(&block.transactions);
    }
    Candidate::new(block, transactions)
}
