//! Commit, restart, indexes, and the state root against a naive second computation.

use std::collections::BTreeMap;

use deepmarket_store::{Cause, CauseSum, Certificate, DayItem, DaySum, Decided, Store, StoreError, Writes, state_root_of};
use deepmarket_types::{
    AccountId, Action, Block, Credits, Event, Hash, Header, Height, JobId, JobState, LeaseId, MachineId, Posting, PublicKey,
    Purse, SecretKey, TimeMs, Transaction, TransactionResult,
};
use proptest::prelude::*;
use tempfile::TempDir;

fn chain() -> Hash {
    Hash::of(b"test chain")
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn account(n: u8) -> AccountId {
    AccountId::from_key(&key(n).public())
}

/// Opens a database with the genesis entry `a` → `0`.
fn fresh() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let tip = store.init(chain(), TimeMs(1_000), &writes([("a", Some("0"))])).unwrap();
    assert_eq!((tip.height, tip.block), (Height(0), chain()));
    (folder, store)
}

fn writes<'a>(entries: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Writes {
    entries.into_iter().map(|(key, value)| (key.into(), value.map(Into::into))).collect()
}

fn posted(to: u8, micro: u64) -> Event {
    posting(to, micro, true, Posting::StartingCredits)
}

fn posting(to: u8, micro: u64, incoming: bool, cause: Posting) -> Event {
    let amount = Credits::from_micro(micro);
    Event::Posted { account: account(to), purse: Purse::Granted, amount, balance: amount, incoming, cause }
}

/// A block of `count` transfers that follows on the store's tip.
fn block(store: &Store, count: u64, events: Vec<Event>, writes: Writes) -> Decided {
    let tip = store.tip().unwrap();
    let height = tip.height.next();
    let transfer = |n| {
        let action = Action::Transfer { to: account(9), amount: Credits::from_micro(n + 1) };
        Transaction::sign(&key(1), &chain(), n, height, action)
    };
    let transactions: Vec<Transaction> = (0..count).map(transfer).collect();
    let result = |t: &Transaction| TransactionResult { id: t.id(), code: 0, message: String::new(), events: 1 };
    let results = transactions.iter().map(result).collect();
    let header = Header {
        version: Header::VERSION,
        chain: chain(),
        height,
        time: tip.time.plus(10),
        parent: tip.block,
        state_root: tip.state_root,
        transactions: Block::transactions_hash(&transactions),
        proposer: key(1).public(),
        link: deepmarket_types::Hash::default(),
    };
    let block = Block { header, transactions };
    let signers: Vec<PublicKey> = (1..4).map(|n| key(n).public()).collect();
    let (certificate, day) = (vec![1, 2, 3], height.0 / 2);
    Decided { block_hash: block.hash(), block, certificate, round: 2, signers, results, events, writes, day }
}

/// The root as the tree's definition states it, bit by bit: an empty subtree is a placeholder, a subtree of one leaf is that
/// leaf, every other one is the hash of its two halves.
fn naive_root(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Hash {
    fn blake3_of(parts: [&[u8]; 3]) -> [u8; 32] {
        *blake3::hash(&parts.concat()).as_bytes()
    }
    fn subtree(leaves: &[([u8; 32], [u8; 32])], depth: usize) -> [u8; 32] {
        match leaves {
            [] => *b"SPARSE_MERKLE_PLACEHOLDER_HASH__",
            [(key, value)] => blake3_of([b"JMT::LeafNode", key, value]),
            _ => {
                let right = leaves.partition_point(|(key, _)| key[depth / 8] >> (7 - depth % 8) & 1 == 0);
                let (left, right) = leaves.split_at(right);
                blake3_of([b"JMT::IntrnalNode", &subtree(left, depth + 1), &subtree(right, depth + 1)])
            }
        }
    }
    let hashed = entries.iter().map(|(k, v)| (*blake3::hash(k).as_bytes(), *blake3::hash(v).as_bytes()));
    let mut leaves: Vec<_> = hashed.collect();
    leaves.sort_unstable();
    Hash(subtree(&leaves, 0))
}

#[test]
fn a_block_is_there_with_all_that_follows_from_it_after_a_restart() {
    let (folder, store) = fresh();
    let decided = block(&store, 3, vec![posted(2, 5)], writes([("b", Some("1")), ("a", None)]));
    let root = store.commit(&decided).unwrap();
    let tip = store.tip().unwrap();
    drop(store);

    let store = Store::open(folder.path()).unwrap();
    assert_eq!((store.tip(), store.state_root(), store.chain().unwrap()), (Some(tip), Some(root), Some(chain())));
    let loaded = store.load().unwrap().unwrap();
    assert_eq!((loaded.tip, loaded.entries), (tip, vec![(b"b".to_vec(), b"1".to_vec())]));
    let stored = store.block(Height(1)).unwrap().unwrap();
    assert_eq!((stored.hash, &stored.block, &stored.results), (decided.block_hash, &decided.block, &decided.results));
    assert_eq!((stored.state_root, stored.certificate.round, stored.certificate.signers.len()), (root, 2, 3));
    assert_eq!(store.state_root_at(Height(1)).unwrap(), Some(root));
    assert_eq!(store.state(b"b").unwrap().as_deref(), Some(&b"1"[..]));
    for (index, transaction) in decided.block.transactions.iter().enumerate() {
        let found = store.transaction(&transaction.id()).unwrap().unwrap();
        assert_eq!(found, (Height(1), index as u32, transaction.clone(), decided.results[index].clone()));
    }
    assert_eq!(store.transaction(&Hash::of(b"unknown")).unwrap(), None);
    assert_eq!(store.block(Height(2)).unwrap(), None);
}

#[test]
fn a_block_out_of_order_is_refused_and_leaves_nothing() {
    let (_folder, store) = fresh();
    let mut decided = block(&store, 1, vec![], Writes::new());
    decided.block.header.height = Height(2);
    let before = store.counts().unwrap();
    assert!(matches!(store.commit(&decided), Err(StoreError::WrongHeight { given: Height(2), expected: Height(1) })));
    assert_eq!((store.counts().unwrap(), store.tip().unwrap().height), (before, Height(0)));
}

#[test]
fn a_database_belongs_to_one_chain_and_is_initialised_once() {
    let (_folder, store) = fresh();
    store.commit(&block(&store, 0, vec![], writes([("b", Some("1"))]))).unwrap();
    let tip = store.init(chain(), TimeMs(1_000), &writes([("a", Some("0"))])).unwrap();
    assert_eq!(tip.height, Height(1));
    let other = store.init(Hash::of(b"other"), TimeMs(1_000), &Writes::new());
    assert!(matches!(other, Err(StoreError::OtherChain { .. })));
}

#[test]
fn a_second_process_can_not_open_the_folder() {
    let (folder, _store) = fresh();
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Database(_))));
}

#[test]
fn histories_are_newest_first_and_go_on_where_a_page_ended() {
    let (_folder, store) = fresh();
    for number in 0..5 {
        let job = Event::Job { job: JobId(1), owner: account(2), state: JobState::Queued };
        let events = vec![posted(2, number), posted(3, 100 + number), job];
        store.commit(&block(&store, 0, events, Writes::new())).unwrap();
    }
    let page = |before| store.account_history(account(2), before, 4).unwrap();
    let first = page(None);
    let places: Vec<_> = first.iter().map(|event| (event.height.0, event.index)).collect();
    assert_eq!(places, [(5, 2), (5, 0), (4, 2), (4, 0)]);
    assert_eq!((first[1].time, &first[1].event), (TimeMs(1_050), &posted(2, 4)));
    let last = first.last().unwrap();
    let places: Vec<_> = page(Some((last.height, last.index))).iter().map(|event| (event.height.0, event.index)).collect();
    assert_eq!(places, [(3, 2), (3, 0), (2, 2), (2, 0)]);
    assert_eq!(store.account_history(account(3), None, 100).unwrap().len(), 5);
    assert_eq!(store.account_history(account(4), None, 100).unwrap(), []);
    assert_eq!(store.job_history(JobId(1), None, 100).unwrap().len(), 5);
    assert_eq!(store.job_history(JobId(2), None, 100).unwrap(), []);
}

#[test]
fn an_event_names_the_transaction_that_caused_it() {
    let (_folder, store) = fresh();
    // Each of the two transactions caused one event, the block's end the third.
    let decided = block(&store, 2, vec![posted(2, 1), posted(2, 2), posted(2, 3)], Writes::new());
    store.commit(&decided).unwrap();
    let [first, second] = [0, 1].map(|at| Some(decided.block.transactions[at].id()));
    let history = store.account_history(account(2), None, 10).unwrap();
    assert_eq!(history.iter().map(|event| event.transaction).collect::<Vec<_>>(), [None, second, first]);
}

#[test]
fn sums_by_cause_and_by_day_are_those_of_the_events() {
    let (folder, store) = fresh();
    let (machine, job) = (MachineId([7; 20]), JobId(4));
    let payout = Posting::Payout { job, lease: LeaseId(1), machine, sequence: 1 };
    let receipt = |micro| Event::Receipt {
        job,
        lease: LeaseId(1),
        machine,
        lender: account(2),
        borrower: account(3),
        rank: 0,
        sequence: 1,
        rounds: 1,
        samples: 1,
        paid_ms: 1_000,
        payout: Credits::from_micro(micro),
    };
    let both = |micro| vec![posting(2, micro, true, payout), receipt(micro)];
    let first =
        vec![posted(3, 50), posting(3, 20, false, Posting::Escrow(job)), posting(3, 1, false, Posting::TransferTo(account(2)))];
    // Days 0, 1, 1, 2.
    for events in
        [first, both(5), [both(6), both(7)].concat(), [both(1), vec![posting(3, 1, true, Posting::Refund(job))]].concat()]
    {
        store.commit(&block(&store, 0, events, Writes::new())).unwrap();
    }
    drop(store);

    let store = Store::open(folder.path()).unwrap();
    let sum = |incoming, outgoing, entries| CauseSum {
        incoming: Credits::from_micro(incoming),
        outgoing: Credits::from_micro(outgoing),
        entries,
    };
    let borrower =
        [(Cause::StartingCredits, sum(50, 0, 1)), (Cause::Account(account(2)), sum(0, 1, 1)), (Cause::Job(job), sum(1, 20, 2))];
    assert_eq!(store.statement(account(3)).unwrap(), borrower);
    assert_eq!(store.statement(account(2)).unwrap(), [(Cause::Machine(machine), sum(19, 0, 4))]);
    let day = |day, item, micro, receipts| {
        (day, item, DaySum { paid_ms: 1_000 * receipts, credits: Credits::from_micro(micro), receipts })
    };
    let profit = DayItem::Profit(machine);
    assert_eq!(store.days(account(2), 0).unwrap(), [day(1, profit, 18, 3), day(2, profit, 1, 1)]);
    assert_eq!(store.days(account(2), 2).unwrap(), [day(2, profit, 1, 1)]);
    assert_eq!(store.days(account(3), 0).unwrap().len(), 2);
    assert_eq!(store.days(account(4), 0).unwrap(), []);
}

#[test]
fn proposals_are_kept_until_their_height_is_decided() {
    let (folder, store) = fresh();
    let (old, new) = (Hash::of(b"old"), Hash::of(b"new"));
    store.put_proposed(Height(1), 0, &old, b"body of old").unwrap();
    store.put_undecided(Height(1), &new, b"body of new").unwrap();
    store.put_undecided(Height(2), &new, b"of the next height").unwrap();
    drop(store);

    let store = Store::open(folder.path()).unwrap();
    assert_eq!((store.proposed(Height(1), 0).unwrap(), store.proposed(Height(1), 1).unwrap()), (Some(old), None));
    assert_eq!(store.undecided(Height(1), &old).unwrap().as_deref(), Some(&b"body of old"[..]));
    let mut hashes = store.undecided_hashes(Height(1)).unwrap();
    hashes.sort();
    let mut expected = [old, new];
    expected.sort();
    assert_eq!(hashes, expected);
    store.commit(&block(&store, 0, vec![], Writes::new())).unwrap();
    assert_eq!((store.undecided_hashes(Height(1)).unwrap(), store.proposed(Height(1), 0).unwrap()), (vec![], None));
    assert_eq!(store.undecided_hashes(Height(2)).unwrap(), [new]);
}

#[test]
fn a_certificate_can_be_replaced_by_a_fuller_one() {
    let (_folder, store) = fresh();
    store.commit(&block(&store, 0, vec![], Writes::new())).unwrap();
    let fuller = Certificate { round: 2, signers: (1..5).map(|n| key(n).public()).collect(), bytes: vec![9] };
    store.put_certificate(Height(1), &fuller).unwrap();
    assert_eq!(store.block(Height(1)).unwrap().unwrap().certificate, fuller);
}

#[test]
fn stale_nodes_of_the_tree_do_not_pile_up() {
    let (_folder, store) = fresh();
    for number in 0..50 {
        let value = number.to_string();
        store.commit(&block(&store, 0, vec![], writes([("a", Some(&*value)), ("b", Some(&*value))]))).unwrap();
    }
    let counts = store.counts().unwrap();
    assert_eq!(counts["state"], 2);
    assert!(counts["tree"] <= 8, "{counts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_root_is_that_of_the_entries_whatever_the_way_to_them(
        blocks in proptest::collection::vec(
            proptest::collection::btree_map(0_u8..40, proptest::option::weighted(0.6, 0_u8..4), 0..12),
            1..20,
        ),
    ) {
        let (folder, mut store) = fresh();
        let mut model = BTreeMap::from([(b"a".to_vec(), b"0".to_vec())]);
        for (number, changes) in blocks.into_iter().enumerate() {
            let writes: Writes = changes.into_iter().map(|(k, v)| (vec![k], v.map(|v| vec![v]))).collect();
            for (key, value) in &writes {
                match value {
                    Some(value) => model.insert(key.clone(), value.clone()),
                    None => model.remove(key),
                };
            }
            let root = store.commit(&block(&store, 0, vec![], writes)).unwrap();
            prop_assert_eq!(root, naive_root(&model));
            let entries = model.iter().map(|(k, v)| (k.as_slice(), v.as_slice()));
            prop_assert_eq!(root, state_root_of(entries));
            if number % 5 == 4 {
                drop(store);
                store = Store::open(folder.path()).unwrap();
                prop_assert_eq!(store.load().unwrap().unwrap().tip.state_root, root);
            }
        }
    }
}
