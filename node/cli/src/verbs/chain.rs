mod verify;

use std::collections::{BTreeMap, BTreeSet};

use deepmarket_api::{Client, HistoryEntry, TransactionStatus};
use deepmarket_types::{AccountId, Action, Disclosure, Hash, Height, JobId, MachineId, PublicKey, Transaction};
use deepmarket_wallet::words;
use serde::Serialize;
use serde_json::Value;

use crate::{
    args::Chain,
    error::{Failure, Outcome},
    output::{self, credits},
    settings::Settings,
};

/// The most events of one account or job that are searched for those of a transaction.
const SEARCHED: usize = 500;

/// Digits of an id that tell it from the account's others.
const SHORTEST_ID: usize = 8;

/// What `chain tx` prints with `--json`.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    status: TransactionStatus,
    /// What it changed, in order.
    caused: Vec<HistoryEntry>,
}

pub async fn run(settings: &Settings, verb: Chain) -> Outcome {
    let client = settings.client()?;
    match verb {
        Chain::Status => {
            let (status, ledger) = (client.status().await?, client.ledger().await?);
            settings.output.show(&serde_json::json!({ "status": status, "ledger": ledger }), || {
                let rows = [
                    ("market", status.name.clone()),
                    ("chain", status.chain.to_string()),
                    ("height", status.height.to_string()),
                    ("time", output::time(status.time)),
                    ("state root", status.state_root.to_string()),
                    ("validators", format!("{} (asked: {})", status.validators, status.validator)),
                    ("waiting transactions", status.mempool.to_string()),
                    ("minted", credits(ledger.minted)),
                    ("in purses", credits(ledger.purses)),
                    ("in escrow", credits(ledger.escrow)),
                    ("held until it vests", credits(ledger.held)),
                    ("in the treasury (audit fees)", credits(ledger.treasury)),
                    ("burned", credits(ledger.burned)),
                    ("conserved", if ledger.conserved { "yes" } else { "NO" }.to_owned()),
                ];
                output::table(&["", ""], &[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
            })?;
            settings.output.next("deepmarket chain block, deepmarket chain verify");
            Ok(())
        }
        Chain::Verify { job, genesis } => verify::run(settings, job, genesis.as_deref()).await,
        Chain::Block { height } => {
            let block = client.block(height.map(Height)).await?.ok_or_else(|| {
                Failure::user(format!("there is no block {}", height.unwrap_or_default()))
                    .with_hint("deepmarket chain status shows the tip")
            })?;
            settings.output.show(&block, || {
                let rows = block.transactions.iter().map(|t| {
                    let result = if t.code == 0 { "ok".to_owned() } else { format!("{} {}", t.code, t.message) };
                    vec![t.action.clone(), t.id.to_string(), result]
                });
                format!(
                    "block {} of {}\nhash       {}\nstate root {} (before)\nproposer   {}\nround {}, signed by {} validators\n{}",
                    block.header.height,
                    output::time(block.header.time),
                    block.hash,
                    block.header.state_root,
                    block.header.proposer,
                    block.round,
                    block.signers.len(),
                    output::table(&["transaction", "id", "result"], &[], rows)
                )
            })?;
            match block.transactions.first() {
                Some(transaction) => settings.output.next(format!("deepmarket chain tx {}", transaction.id)),
                None => settings.output.next("deepmarket chain status"),
            }
            Ok(())
        }
        Chain::Tx { id } => {
            let id = full_id(settings, &client, &id).await?;
            let status = client.transaction(id).await?.ok_or_else(|| {
                Failure::user(format!("no transaction {id} is known"))
                    .with_hint("it may have expired, or another gateway may still hold it: ask again in a moment")
            })?;
            let shown = Shown { caused: caused(&client, &status).await?, status };
            settings.output.show(&shown, || describe(&shown))?;
            match shown.status.height {
                Some(height) => settings.output.next(format!("deepmarket chain block {height}")),
                None => settings.output.next(format!("deepmarket chain tx {id}, in a moment")),
            }
            Ok(())
        }
    }
}

/// An id, or the one of this account's transactions whose id begins so, as `account history` shows them.
async fn full_id(settings: &Settings, client: &Client, text: &str) -> Outcome<Hash> {
    let wrong = match text.parse() {
        Ok(id) => return Ok(id),
        Err(wrong) => Failure::user(wrong),
    };
    let start = text.trim_end_matches('…').trim_start_matches("blake3:").to_ascii_lowercase();
    if start.len() < SHORTEST_ID || !start.bytes().all(|b| b.is_ascii_hexdigit()) {
        let hint =
            format!("an id has 64 hex digits; the first {SHORTEST_ID} or more are enough for the account's own transactions");
        return Err(wrong.with_hint(hint));
    }
    let account = settings.accounts.resolve(None, settings.account_name())?;
    let entries = client.account_history(account, None, SEARCHED).await?;
    let ids: BTreeSet<Hash> = entries.iter().filter_map(|entry| entry.transaction).collect();
    let mut found = ids.into_iter().filter(|id| id.to_hex().starts_with(&start));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (None, _) => Err(Failure::user(format!("none of the account's last {SEARCHED} entries is of a transaction {start}…"))
            .with_hint("deepmarket account history --csv FILE has all of them with their whole ids")),
        _ => Err(Failure::user(format!("several transactions begin with {start}")).with_hint("write more of the id")),
    }
}

/// What a transaction changed, from the histories of the account and the job that it is about.
async fn caused(client: &Client, status: &TransactionStatus) -> Outcome<Vec<HistoryEntry>> {
    let (Some(height), Some(0), Some(transaction)) = (status.height, status.code, &status.transaction) else {
        return Ok(Vec::new());
    };
    let (account, job) = about(client, transaction).await?;
    let before = Some((height.next(), 0));
    let mut entries = Vec::new();
    if let Some(account) = account {
        entries.extend(client.account_history(account, before, SEARCHED).await?);
    }
    // A job that a transaction submitted is known from the account's history only.
    let is_own = |entry: &HistoryEntry| entry.transaction == Some(status.id);
    let submitted = entries.iter().filter(|entry| is_own(entry)).find_map(|entry| entry.event.job());
    if let Some(job) = job.or(submitted) {
        entries.extend(client.job_history(job, before, SEARCHED).await?);
    }
    let own = entries.into_iter().filter(is_own).map(|entry| ((entry.height, entry.index), entry));
    Ok(own.collect::<BTreeMap<_, _>>().into_values().collect())
}

/// The account and the job in whose histories a transaction's events are.
async fn about(client: &Client, transaction: &Transaction) -> Outcome<(Option<AccountId>, Option<JobId>)> {
    let signer = &transaction.body.signer;
    let machines_owner = async |key: &PublicKey| -> Outcome<Option<AccountId>> {
        Ok(client.machine(MachineId::from_key(key)).await?.map(|machine| machine.owner))
    };
    Ok(match &transaction.body.action {
        Action::Receipt(receipt) => (machines_owner(signer).await?, Some(receipt.job)),
        Action::Heartbeat { .. } | Action::Join { .. } => (machines_owner(signer).await?, None),
        Action::Disclose(Disclosure { audit, .. })
        | Action::Commit { audit, .. }
        | Action::Reveal { audit, .. }
        | Action::Trace { audit, .. }
        | Action::Judge { audit, .. } => (machines_owner(signer).await?, client.audit(*audit).await?.map(|audit| audit.job)),
        Action::Cancel { job } => (client.account_by_key(signer).await?.map(|account| account.id), Some(*job)),
        Action::Price(_) => (None, None),
        _ => (client.account_by_key(signer).await?.map(|account| account.id), None),
    })
}

/// Long lists of numbers, which are bytes, make way for their count.
fn name_bytes(value: &mut Value) {
    match value {
        Value::Array(items) if items.len() > 16 && items.iter().all(Value::is_number) => {
            *value = Value::String(format!("{} bytes", items.len()));
        }
        Value::Array(items) => items.iter_mut().for_each(name_bytes),
        Value::Object(fields) => fields.values_mut().for_each(name_bytes),
        _ => {}
    }
}

fn describe(Shown { status, caused }: &Shown) -> String {
    let place = match (status.height, status.index) {
        (Some(height), Some(index)) => format!("block {height}, number {index}"),
        _ => "waiting".to_owned(),
    };
    let result = match status.code {
        None => "not decided yet".to_owned(),
        Some(0) => "ok".to_owned(),
        Some(code) => format!("rejected: {code} {}", status.message),
    };
    let action = status.transaction.as_ref().map_or("?", |t| t.body.action.name());
    let mut body = status.transaction.as_ref().and_then(|t| serde_json::to_value(&t.body).ok()).unwrap_or_default();
    name_bytes(&mut body);
    let body = serde_json::to_string_pretty(&body).unwrap_or_default();
    let mut text = format!("transaction {}: {action}\n{place}\n{result}\n", status.id);
    if !caused.is_empty() {
        text += "it caused:\n";
        text.extend(caused.iter().map(|entry| format!("  {}\n", words::sentence(&entry.event))));
    }
    text + &body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_and_not_listed() {
        let mut value = serde_json::json!({ "spec": vec![7; 260], "list": [1, 2], "inner": { "key": vec![0; 32] } });
        name_bytes(&mut value);
        assert_eq!(value, serde_json::json!({ "spec": "260 bytes", "list": [1, 2], "inner": { "key": "32 bytes" } }));
    }
}
