//! What the chain reads: transactions, blocks, ids as text, genesis documents.

use std::{fmt::Display, str::FromStr, sync::LazyLock};

use deepmarket_genesis::Genesis;
use deepmarket_types::{
    AccountId, Block, ChainId, Credits, Event, Hash, Header, Height, JobId, LeaseId, MAX_TRANSACTION_BYTES, MachineId, PublicKey,
    Signature, Transaction, TransactionResult,
};

use crate::check::{canonical, said, survives_json};

/// The chain of the golden vectors, so that seeds hold valid signatures.
static CHAIN: LazyLock<ChainId> = LazyLock::new(|| Hash::of(b"vectors"));

/// A signed transaction, as gateways take it.
pub(crate) fn transaction(data: &[u8]) {
    let decoded: Option<Transaction> = canonical(data);
    if let Some(transaction) = &decoded {
        assert_eq!(transaction.id(), Hash::of(data));
    }
    match Transaction::verify_bytes(data, &CHAIN) {
        Ok(verified) => {
            assert!(data.len() <= MAX_TRANSACTION_BYTES);
            assert_eq!(Some(verified.transaction()), decoded.as_ref());
            // What the chain takes is shown to everybody.
            survives_json(verified.transaction());
            assert_eq!((verified.id(), verified.byte_len()), (Hash::of(data), data.len()));
        }
        Err(error) => said(&error),
    }
}

/// What validators exchange and keep: the first byte says what.
pub(crate) fn block(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 4 {
        0 => {
            let Some(block) = canonical::<Block>(data) else { return };
            assert_eq!(block.hash(), block.header.hash());
            Block::transactions_hash(&block.transactions);
            // Signatures take most of the time, and two tell as much as many.
            for transaction in block.transactions.into_iter().take(2) {
                match transaction.verify(&CHAIN) {
                    Ok(verified) => survives_json(verified.transaction()),
                    Err(error) => said(&error),
                }
            }
        }
        1 => canonical::<Header>(data).iter().for_each(|header| assert_eq!(header.hash(), header.clone().hash())),
        2 => canonical::<TransactionResult>(data).iter().for_each(survives_json),
        _ => canonical::<Event>(data).iter().for_each(survives_json),
    }
}

/// Ids, hashes, keys and amounts, as people and programs write them into paths, queries and fields. All are tried.
pub(crate) fn identifier(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    one::<AccountId>(text);
    one::<MachineId>(text);
    one::<JobId>(text);
    one::<LeaseId>(text);
    one::<Hash>(text);
    one::<PublicKey>(text);
    one::<Signature>(text);
    one::<Credits>(text);
    if let Ok(height) = text.parse::<u64>() {
        survives_json(&Height(height));
    }
}

/// What is shown is read as the same.
fn one<T: FromStr<Err: Display> + Display + PartialEq>(text: &str) {
    match text.parse::<T>() {
        Ok(value) => assert!(value.to_string().parse::<T>().is_ok_and(|again| again == value), "{value}"),
        Err(error) => said(&error),
    }
}

/// A genesis document.
pub(crate) fn genesis(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Genesis::from_toml(text) {
        Ok(genesis) => {
            let again = Genesis::from_toml(&genesis.to_toml()).expect("a document is read as it was written");
            assert_eq!(again, genesis);
            assert_eq!(again.chain_id(), genesis.chain_id());
            genesis.check().err().iter().for_each(said);
            genesis.ledger_state();
            genesis.gateways();
        }
        Err(error) => said(&error),
    }
}
