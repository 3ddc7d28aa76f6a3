//! Validators that decide together, fail, come back and lie.

mod market;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use deepmarket_consensus::{SubmitError, Tamper, replay::Replay};
use deepmarket_engine::wire::CommitForm;
use deepmarket_ledger::Ledger;
use deepmarket_store::StoredBlock;
use deepmarket_types::{Action, Block, Credits, Hash, Height, PublicKey, SecretKey, Signature, Transaction, decode, encode};
use market::{Market, eventually};

type Test = std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// Runs a test on a runtime with threads; engines of four validators share it.
fn run(test: impl FnOnce() -> Test) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(test());
    runtime.shutdown_timeout(Duration::from_secs(10));
}

/// What every validator's ledger says, as bytes of its state.
fn state_of(ledger: &Ledger) -> Hash {
    Hash::of(&encode(&ledger.entries().collect::<Vec<_>>()))
}

#[test]
fn one_validator_alone_decides_and_goes_on_after_a_restart() {
    run(|| {
        Box::pin(async {
            let mut market = Market::new(1, |_| {});
            market.start(0).await;
            let (alice, bob) = (Market::user(1), Market::user(2));
            assert_eq!(market.decide(&market.open(&alice)).await, 0);
            // The first block opened with the day's prices.
            let first = market.node(0).store().block(Height(1)).unwrap().unwrap();
            assert!(matches!(first.block.transactions[0].body.action, Action::Price(_)));
            let before = market.node(0).status();
            market.stop(0).await;

            market.start(0).await;
            let after = market.node(0).status();
            assert!(after.height >= before.height);
            assert_eq!(market.node(0).store().state_root_at(before.height).unwrap(), Some(before.state_root));
            assert_eq!(market.decide(&market.open(&bob)).await, 0);
            assert!(market.node(0).ledger().read().unwrap().account_of_key(&alice.public()).is_some());
            market.stop_all().await;
        })
    });
}

#[test]
fn four_validators_decide_the_same_and_hold_the_same_state() {
    run(|| {
        Box::pin(async {
            let mut market = Market::new(4, |_| {});
            market.start_all().await;
            let users: Vec<SecretKey> = (0..20).map(Market::user).collect();
            let opened: Vec<Hash> = users.iter().map(|user| market.submit(&market.open(user))).collect();
            for id in opened {
                assert_eq!(market.decided(id).await, 0);
            }
            // A rejection is an answer too: starting credits can't be transferred. Then the number is used.
            let mut blocks = market.node(0).subscribe();
            let transfer = market.transfer(&users[0], 0, &users[1]);
            let bytes = encode(&transfer);
            let refused = market.node(0).submit(&bytes);
            assert!(matches!(refused, Err(SubmitError::Ledger(_))), "{refused:?}");
            assert_eq!(refused.unwrap_err().code(), 2023);
            drop(blocks.try_recv());
            let height = market.height();
            market.agree(height).await;
            let states: Vec<Hash> = market.running().map(|node| state_of(&node.ledger().read().unwrap())).collect();
            assert!(states.windows(2).all(|pair| pair[0] == pair[1]));
            assert!(market.node(3).ledger().read().unwrap().totals().conserved());
            anybody_finds_the_same(&market, height);
            market.stop_all().await;
        })
    });
}

/// Who has only the genesis document comes to the same state, and believes nothing that isn't so.
fn anybody_finds_the_same(market: &Market, height: Height) {
    let node = market.node(2);
    let stored = |height: u64| node.store().block(Height(height)).unwrap().unwrap();
    let mut replay = Replay::new(&market.genesis).unwrap();
    let mut transactions = 0;
    for at in 1..=height.0 {
        let of_node = stored(at);
        let (bytes, certificate) = (encode(&of_node.block), of_node.certificate.bytes.clone());
        if at == 1 {
            lies_are_found(&mut replay, &of_node, market);
        }
        let found = replay.next(&bytes, &certificate).unwrap();
        assert_eq!((found.hash, replay.state_root()), (of_node.hash, of_node.state_root), "block {at}");
        assert_eq!((&found.results, &found.events), (&of_node.results, &of_node.events), "block {at}");
        assert_eq!(found.signers, of_node.certificate.signers.len());
        transactions += found.accepted().count();
    }
    assert!(transactions >= 20);
    assert_eq!(state_of(replay.ledger()), state_of(&node.ledger().read().unwrap()));
}

fn lies_are_found(replay: &mut Replay, honest: &StoredBlock, market: &Market) {
    let (bytes, certificate) = (encode(&honest.block), &honest.certificate.bytes);
    let mut refused = |bytes: &[u8], certificate: &[u8]| replay.next(bytes, certificate).err().expect("is refused").to_string();
    let mut changed = honest.block.clone();
    changed.header.time = changed.header.time.plus(1);
    assert!(refused(&encode(&changed), certificate).contains("was not decided"), "another block");
    let mut without = honest.block.clone();
    without.transactions.pop();
    assert!(refused(&encode(&without), certificate).contains("can't be right"), "a transaction is missing");
    let form: CommitForm = decode(certificate).unwrap();
    let with = |signatures: Vec<(PublicKey, Signature)>| encode(&(form.0, form.1, form.2, signatures));
    let two = form.3[..2].to_vec();
    assert!(refused(&bytes, &with(two.clone())).contains("2 of 4 validators signed"));
    let twice = [two.clone(), two.clone()].concat();
    assert!(refused(&bytes, &with(twice)).contains("signs twice"));
    let stranger = Market::user(9);
    let forged = [two.clone(), vec![(stranger.public(), two[0].1)]].concat();
    assert!(refused(&bytes, &with(forged)).contains("is no validator"));
    let third = market.genesis.validators.iter().map(|v| v.key).find(|key| two.iter().all(|(k, _)| k != key)).unwrap();
    let borrowed = [two.clone(), vec![(third, two[0].1)]].concat();
    assert!(refused(&bytes, &with(borrowed)).contains("the signature of"));
    assert!(refused(&bytes[1..], certificate).contains("can't be read"));
}

#[test]
fn a_transaction_of_one_gateway_is_decided_though_no_other_validator_has_it() {
    run(|| {
        Box::pin(async {
            let mut market = Market::new(4, |_| {});
            market.start_all().await;
            market.agree(Height(1)).await;
            let open = market.open(&Market::user(1));
            let mut accepted = market.node(2).accepted();
            let id = market.node(2).submit(&encode(&open)).unwrap();
            assert_eq!(*accepted.recv().await.unwrap(), encode(&open));
            // Known while it waits and after it was decided.
            assert_eq!(market.node(2).submit(&encode(&open)).unwrap(), id);
            assert_eq!(market.decided(id).await, 0);
            assert_eq!(market.node(1).submit(&encode(&open)).unwrap(), id);
            market.stop_all().await;
        })
    });
}

#[test]
fn a_validator_that_was_away_catches_up_and_agrees_on_the_state() {
    run(|| {
        Box::pin(async {
            let mut market = Market::new(4, |_| {});
            market.start_all().await;
            assert_eq!(market.decide(&market.open(&Market::user(1))).await, 0);
            market.stop(3).await;
            for n in 2..12 {
                assert_eq!(market.decide(&market.open(&Market::user(n))).await, 0);
            }
            let height = market.height();
            market.start(3).await;
            market.agree(height).await;
            assert_eq!(market.decide(&market.open(&Market::user(12))).await, 0);
            market.agree(market.height()).await;
            market.stop_all().await;
        })
    });
}

#[test]
fn two_of_four_down_stop_the_chain_until_one_returns() {
    run(|| {
        Box::pin(async {
            let mut market = Market::new(4, |genesis| genesis.params.idle_block_ms = 300);
            market.start_all().await;
            assert_eq!(market.decide(&market.open(&Market::user(1))).await, 0);
            market.stop(2).await;
            market.stop(3).await;
            // What was under way may still be decided; then nothing is, though a heartbeat is due every 300 ms.
            let open = market.open(&Market::user(2));
            tokio::time::sleep(Duration::from_secs(2)).await;
            let stuck = market.height();
            let id = market.submit(&open);
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert_eq!(market.height(), stuck);

            market.start(2).await;
            assert_eq!(market.decided(id).await, 0);
            market.start(3).await;
            let height = market.height();
            market.agree(height).await;
            market.stop_all().await;
        })
    });
}

/// Starts four validators of which one lies in every block that it proposes, decides some transactions, and asserts that none
/// of its lies is in the chain.
fn outvoted(lie: impl Fn(&mut Block, &SecretKey) + Send + Sync + 'static) {
    run(|| {
        Box::pin(async move {
            let mut market = Market::new(4, |_| {});
            let lies = Arc::new(AtomicUsize::new(0));
            let told = lies.clone();
            let tamper: Tamper = Arc::new(move |block, key| {
                told.fetch_add(1, Ordering::Relaxed);
                lie(block, key);
            });
            for index in 0..3 {
                market.start(index).await;
            }
            market.start_tampering(3, Some(tamper)).await;
            let liar = market.genesis.validators[3].key;
            let mut n = 0;
            while lies.load(Ordering::Relaxed) < 2 {
                n += 1;
                assert_eq!(market.decide(&market.open(&Market::user(n))).await, 0);
                assert!(n < 60, "it was never its turn");
            }
            let height = market.height();
            market.agree(height).await;
            for height in 1..=height.0 {
                let block = market.node(0).store().block(Height(height)).unwrap().unwrap();
                assert_ne!(block.block.header.proposer, liar, "a lie was decided at height {height}");
            }
            market.stop_all().await;
        })
    });
}

#[test]
fn a_proposal_on_a_wrong_state_is_voted_down_and_the_chain_goes_on() {
    outvoted(|block, _| block.header.state_root = Hash::of(b"wished for"));
}

#[test]
fn a_proposal_with_prices_of_its_own_is_voted_down_and_the_chain_goes_on() {
    outvoted(|block, key| {
        let (chain, height) = (block.header.chain, block.header.height);
        let mut slots = deepmarket_types::SlotPrices::default();
        slots.slots[0].core_hour = Credits::from_micro(1);
        let prices = Transaction::sign(key, &chain, 0, height, Action::Price(slots));
        block.transactions.retain(|transaction| !matches!(transaction.body.action, Action::Price(_)));
        block.transactions.insert(0, prices);
    });
}

#[test]
fn a_proposal_with_a_forged_transaction_is_voted_down_and_the_chain_goes_on() {
    outvoted(|block, key| {
        let victim = Market::user(1).public();
        let to = deepmarket_types::AccountId::from_key(&key.public());
        let action = Action::Transfer { to, amount: Credits::from_credits(1) };
        let mut theft = Transaction::sign(key, &block.header.chain, 0, Height(1_000_000), action);
        theft.body.signer = victim;
        block.transactions.push(theft);
    });
}

#[test]
fn a_proposal_from_the_future_is_voted_down_and_the_chain_goes_on() {
    outvoted(|block, _| block.header.time = block.header.time.plus(60_000));
}

#[test]
fn an_idle_market_makes_blocks_only_as_heartbeats() {
    run(|| {
        Box::pin(async {
            let mut market = Market::new(4, |genesis| genesis.params.idle_block_ms = 3_000);
            market.start_all().await;
            market.agree(Height(1)).await;
            // Starting up may take a round or two; from the third block on the market is idle.
            let store = market.node(0).store().clone();
            let time = |height| store.block(Height(height)).unwrap().map(|block| block.block.header.time);
            eventually("two heartbeats", || time(5)).await;
            for height in 3..=5 {
                let gap_ms = time(height).unwrap().since(time(height - 1).unwrap());
                assert!(gap_ms >= 2_900, "block {height} came {gap_ms} ms after the one before");
            }
            drop(store);
            market.stop_all().await;
        })
    });
}
