//! Transactions that wait for a block. Everything is bounded; order of arrival is kept, and the numbers of one signer come in
//! order.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
};

use deepmarket_ledger::Ledger;
use deepmarket_types::{Action, Hash, PublicKey, VerifiedTransaction};

use crate::SubmitError;

/// The bounds of a mempool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most transactions.
    pub transactions: usize,
    /// The most bytes of all.
    pub bytes: usize,
    /// The most transactions of one signer.
    pub per_signer: usize,
}

impl Default for Limits {
    fn default() -> Self {
        // Ten full blocks, and per signer as many as a ledger lets numbers run ahead.
        Limits { transactions: 20_000, bytes: 32 << 20, per_signer: 64 }
    }
}

/// Whose numbers a transaction's nonce counts in. Openings, machines that join, receipts, prices and
/// the words of an audit have none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    Account(PublicKey),
    Machine(PublicKey),
}

fn lane(transaction: &VerifiedTransaction) -> Option<Lane> {
    let body = transaction.body();
    match body.action {
        Action::OpenAccount { .. } | Action::Receipt(_) | Action::Price(_) | Action::Join { .. } => None,
        Action::Disclose(_) | Action::Commit { .. } | Action::Reveal { .. } | Action::Trace { .. } | Action::Judge { .. } => None,
        Action::Heartbeat { .. } => Some(Lane::Machine(body.signer)),
        Action::Transfer { .. }
        | Action::RegisterMachine { .. }
        | Action::Lend { .. }
        | Action::Withdraw { .. }
        | Action::Invite { .. }
        | Action::Borrow { .. }
        | Action::Cancel { .. } => Some(Lane::Account(body.signer)),
    }
}

/// The number that the ledger expects next; none where it doesn't know the signer (yet).
fn expected(ledger: &Ledger, lane: Lane) -> Option<u64> {
    match lane {
        Lane::Account(key) => ledger.account_of_key(&key).map(|account| account.nonce),
        Lane::Machine(key) => ledger.machine_of_key(&key).map(|machine| machine.nonce),
    }
}

/// Order of arrival.
type Place = u64;

#[derive(Default)]
struct Waiting {
    by_place: BTreeMap<Place, Arc<VerifiedTransaction>>,
    by_id: HashMap<Hash, Place>,
    lanes: HashMap<Lane, BTreeMap<u64, Place>>,
    per_signer: HashMap<PublicKey, usize>,
    bytes: usize,
    next: Place,
}

/// The waiting transactions of one validator.
pub struct Mempool {
    limits: Limits,
    waiting: Mutex<Waiting>,
}

impl Mempool {
    pub fn new(limits: Limits) -> Self {
        Mempool { limits, waiting: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing panics while holding the mempool")
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.lock().by_place.len()
    }

    /// Does this transaction wait?
    pub fn contains(&self, id: &Hash) -> bool {
        self.lock().by_id.contains_key(id)
    }

    /// A waiting transaction: it was verified when it came.
    pub fn get(&self, id: &Hash) -> Option<Arc<VerifiedTransaction>> {
        let waiting = self.lock();
        waiting.by_id.get(id).map(|place| waiting.by_place[place].clone())
    }

    /// Takes a transaction that the ledger's precheck let through. `false` where it waits already.
    pub fn insert(&self, transaction: VerifiedTransaction) -> Result<bool, SubmitError> {
        let mut waiting = self.lock();
        let (id, signer) = (transaction.id(), transaction.body().signer);
        if waiting.by_id.contains_key(&id) {
            return Ok(false);
        }
        if waiting.by_place.len() >= self.limits.transactions || waiting.bytes + transaction.byte_len() > self.limits.bytes {
            return Err(SubmitError::Full { waiting: waiting.by_place.len(), bytes: waiting.bytes });
        }
        let of_signer = waiting.per_signer.get(&signer).copied().unwrap_or(0);
        if of_signer >= self.limits.per_signer {
            return Err(SubmitError::SignerFull { waiting: of_signer });
        }
        let (lane, nonce) = (lane(&transaction), transaction.body().nonce);
        if let Some(place) = lane.and_then(|lane| waiting.lanes.get(&lane)?.get(&nonce)) {
            return Err(SubmitError::NonceTaken { nonce, other: waiting.by_place[place].id() });
        }

        // Nothing fails from here on.
        let place = waiting.next;
        waiting.next += 1;
        waiting.bytes += transaction.byte_len();
        waiting.by_id.insert(id, place);
        *waiting.per_signer.entry(signer).or_default() += 1;
        if let Some(lane) = lane {
            waiting.lanes.entry(lane).or_default().insert(nonce, place);
        }
        waiting.by_place.insert(place, Arc::new(transaction));
        Ok(true)
    }

    /// The transactions for the next block on this ledger: in order of arrival, each signer's numbers in order without gaps. One
    /// that the ledger would refuse for good is taken too: its rejection in a block is the answer that its sender waits for.
    pub fn select(&self, ledger: &Ledger, count: usize, bytes: usize) -> Vec<Arc<VerifiedTransaction>> {
        let waiting = self.lock();
        let height = ledger.height().next();
        let mut room = bytes;
        let mut selected = Vec::new();
        let mut taken = HashSet::new();
        let mut numbers: HashMap<Lane, u64> = HashMap::new();
        for (&place, first) in &waiting.by_place {
            if taken.contains(&place) {
                continue;
            }
            // The transaction, and then those of its signer that came earlier than their turn.
            let mut next = Some((place, first));
            while let Some((place, transaction)) = next.take() {
                if selected.len() >= count {
                    return selected;
                }
                let body = transaction.body();
                if body.expires < height || transaction.byte_len() > room {
                    break;
                }
                let lane = lane(transaction);
                if let Some(lane) = lane {
                    let number = match numbers.get(&lane) {
                        Some(number) => Some(*number),
                        None => expected(ledger, lane),
                    };
                    if number != Some(body.nonce) {
                        break;
                    }
                }
                if ledger.precheck(transaction).is_err_and(|rejection| rejection.is_retryable()) {
                    break;
                }
                room -= transaction.byte_len();
                selected.push(transaction.clone());
                taken.insert(place);
                if let Some(lane) = lane {
                    numbers.insert(lane, body.nonce + 1);
                    let following = waiting.lanes.get(&lane).and_then(|places| places.get(&(body.nonce + 1)));
                    next = following.and_then(|place| Some((*place, waiting.by_place.get(place)?)));
                }
            }
        }
        selected
    }

    /// Does any transaction wait whose turn it is?
    pub fn has_ready(&self, ledger: &Ledger) -> bool {
        !self.select(ledger, 1, usize::MAX).is_empty()
    }

    /// Drops what a block decided and what can never be decided after it: expired ones, and those whose number is used.
    pub fn committed<'a>(&self, ids: impl IntoIterator<Item = &'a Hash>, ledger: &Ledger) {
        let mut waiting = self.lock();
        for id in ids {
            if let Some(place) = waiting.by_id.get(id).copied() {
                waiting.remove(place);
            }
        }
        let height = ledger.height().next();
        let dead = |transaction: &VerifiedTransaction| {
            let body = transaction.body();
            let used = lane(transaction).and_then(|lane| expected(ledger, lane)).is_some_and(|number| body.nonce < number);
            used || body.expires < height
        };
        let dead: Vec<Place> = waiting.by_place.iter().filter(|(_, t)| dead(t)).map(|(place, _)| *place).collect();
        for place in dead {
            waiting.remove(place);
        }
    }
}

impl Waiting {
    fn remove(&mut self, place: Place) {
        let Some(transaction) = self.by_place.remove(&place) else { return };
        let body = transaction.body();
        self.bytes -= transaction.byte_len();
        self.by_id.remove(&transaction.id());
        if let Some(count) = self.per_signer.get_mut(&body.signer) {
            *count -= 1;
            if *count == 0 {
                self.per_signer.remove(&body.signer);
            }
        }
        if let Some(lane) = lane(&transaction)
            && let Some(numbers) = self.lanes.get_mut(&lane)
        {
            numbers.remove(&body.nonce);
            if numbers.is_empty() {
                self.lanes.remove(&lane);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use deepmarket_genesis::{Genesis, LOCAL, Validator};
    use deepmarket_types::{AccountId, ChainId, Credits, Header, Height, SecretKey, TimeMs, Transaction, Voucher};

    use super::*;

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed([n; 32])
    }

    /// A ledger with the accounts of keys 10 and 11, after one block at height 1.
    fn ledger() -> (ChainId, Ledger) {
        let validator = Validator {
            name: "v".into(),
            key: key(1).public(),
            consensus: "/ip4/127.0.0.1/tcp/1".into(),
            gateway: "http://127.0.0.1:1".into(),
        };
        let open = Genesis::from_toml(LOCAL).unwrap();
        let genesis = open.complete(TimeMs(1_000_000), vec![validator], vec![key(1).public()]).unwrap();
        let (mut ledger, _) = Ledger::genesis(&genesis.ledger_state());
        let chain = genesis.chain_id();
        let time = TimeMs(1_001_000);
        let prices = Action::Price(ledger.price_due(time, &ledger.tip()).unwrap());
        let mut transactions = vec![Transaction::sign(&key(1), &chain, 0, Height(1), prices)];
        for user in [key(10), key(11)] {
            let identity = Hash::of(&user.public().0);
            let voucher = Voucher::sign(&key(1), &chain, identity, user.public(), TimeMs(u64::MAX));
            transactions.push(Transaction::sign(&user, &chain, 0, Height(9), Action::OpenAccount { voucher }));
        }
        let header = Header {
            version: Header::VERSION,
            chain,
            height: Height(1),
            time,
            parent: ledger.tip(),
            state_root: Hash::default(),
            transactions: deepmarket_types::Block::transactions_hash(&transactions),
            proposer: key(1).public(),
            link: deepmarket_types::Hash::default(),
        };
        let verified: Vec<_> = transactions.into_iter().map(|t| t.verify(&chain).unwrap()).collect();
        let applied = ledger.apply(&header, &verified);
        assert!(applied.results.iter().all(|result| result.code == 0));
        (chain, ledger)
    }

    fn transfer(chain: &ChainId, from: u8, nonce: u64, expires: u64, micro: u64) -> VerifiedTransaction {
        let to = AccountId::from_key(&key(10).public());
        let action = Action::Transfer { to, amount: Credits::from_micro(micro) };
        Transaction::sign(&key(from), chain, nonce, Height(expires), action).verify(chain).unwrap()
    }

    fn numbers(mempool: &Mempool, ledger: &Ledger, count: usize, bytes: usize) -> Vec<u64> {
        mempool.select(ledger, count, bytes).iter().map(|transaction| transaction.body().nonce).collect()
    }

    #[test]
    fn numbers_of_a_signer_come_in_order_and_wait_for_a_missing_one() {
        let (chain, ledger) = ledger();
        let mempool = Mempool::new(Limits::default());
        for nonce in [2, 1] {
            assert!(mempool.insert(transfer(&chain, 11, nonce, 9, 1)).unwrap());
        }
        assert!(!mempool.has_ready(&ledger));
        assert!(mempool.insert(transfer(&chain, 11, 0, 9, 1)).unwrap());
        assert_eq!(numbers(&mempool, &ledger, 10, usize::MAX), [0, 1, 2]);
        assert_eq!(numbers(&mempool, &ledger, 2, usize::MAX), [0, 1]);
        let one = transfer(&chain, 11, 0, 9, 1).byte_len();
        assert_eq!(numbers(&mempool, &ledger, 10, 2 * one), [0, 1]);
    }

    #[test]
    fn the_same_transaction_is_known_and_another_of_its_number_is_refused() {
        let (chain, _) = ledger();
        let mempool = Mempool::new(Limits::default());
        let first = transfer(&chain, 11, 0, 9, 1);
        assert!(mempool.insert(first.clone()).unwrap());
        assert!(!mempool.insert(first.clone()).unwrap());
        let error = mempool.insert(transfer(&chain, 11, 0, 9, 2)).unwrap_err();
        assert!(matches!(error, SubmitError::NonceTaken { nonce: 0, other } if other == first.id()));
        assert_eq!((error.code(), mempool.len()), (4003, 1));
    }

    #[test]
    fn transactions_bytes_and_signers_are_bounded() {
        let (chain, _) = ledger();
        let bytes = transfer(&chain, 11, 0, 9, 1).byte_len();
        let mempool = Mempool::new(Limits { transactions: 3, bytes: 1 << 20, per_signer: 2 });
        for nonce in 0..2 {
            mempool.insert(transfer(&chain, 11, nonce, 9, 1)).unwrap();
        }
        assert_eq!(mempool.insert(transfer(&chain, 11, 2, 9, 1)).unwrap_err().code(), 4002);
        mempool.insert(transfer(&chain, 10, 0, 9, 1)).unwrap();
        assert_eq!(mempool.insert(transfer(&chain, 12, 0, 9, 1)).unwrap_err().code(), 4001);
        let narrow = Mempool::new(Limits { bytes: 2 * bytes - 1, ..Limits::default() });
        narrow.insert(transfer(&chain, 11, 0, 9, 1)).unwrap();
        assert_eq!(narrow.insert(transfer(&chain, 11, 1, 9, 1)).unwrap_err().code(), 4001);
    }

    #[test]
    fn decided_expired_and_outnumbered_transactions_go_away() {
        let (chain, ledger) = ledger();
        let mempool = Mempool::new(Limits::default());
        let decided = transfer(&chain, 11, 0, 9, 1);
        mempool.insert(decided.clone()).unwrap();
        mempool.insert(transfer(&chain, 10, 0, 1, 1)).unwrap(); // height 1 is past
        let kept = transfer(&chain, 11, 1, 9, 1);
        mempool.insert(kept.clone()).unwrap();
        assert_eq!(mempool.get(&decided.id()).as_deref(), Some(&decided));
        mempool.committed([&decided.id()], &ledger);
        assert_eq!((mempool.len(), mempool.contains(&kept.id())), (1, true));
        mempool.committed([&kept.id()], &ledger);
        let waiting = mempool.lock();
        assert!(waiting.lanes.is_empty() && waiting.per_signer.is_empty() && waiting.bytes == 0);
    }
}
