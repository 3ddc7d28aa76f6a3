//! Accounts: opening one, and what happened to it.

use deepmarket_api::{AccountView, Client, HistoryEntry, VoucherRequest};
use deepmarket_types::{AccountId, Action, Event, SecretKey, Voucher};

use crate::{
    failure::{Failure, Outcome},
    words,
};

/// Entries that a gateway gives at once.
const PAGE: usize = 500;

/// The account, or an error that says what to do.
pub async fn fetch(client: &Client, id: AccountId) -> Outcome<AccountView> {
    client.account(id).await?.ok_or_else(|| {
        Failure::user(format!("the market knows no account {id}"))
            .with_hint("open one with `deepmarket account open`")
            .with_code(2002)
    })
}

/// Opens the account of a key for an identity, with a voucher of the gateway's registrar; one that is open already stays as it
/// is.
pub async fn open(client: &Client, key: &SecretKey, identity: &str) -> Outcome<AccountView> {
    let id = AccountId::from_key(&key.public());
    if client.account(id).await?.is_none() {
        let request = VoucherRequest { identity: identity.to_owned(), key: key.public() };
        return open_with(client, key, client.voucher(&request).await?).await;
    }
    fetch(client, id).await
}

/// Opens the account of a key with a voucher.
pub async fn open_with(client: &Client, key: &SecretKey, voucher: Voucher) -> Outcome<AccountView> {
    client.act(key, Action::OpenAccount { voucher }).await?;
    fetch(client, AccountId::from_key(&key.public())).await
}

/// The newest changes of the account's purses, newest first.
pub async fn history(client: &Client, id: AccountId, limit: usize) -> Outcome<Vec<HistoryEntry>> {
    let mut entries: Vec<HistoryEntry> = Vec::new();
    let mut before = None;
    while entries.len() < limit {
        let page = client.account_history(id, before, PAGE).await?;
        before = page.last().map(|entry| (entry.height, entry.index));
        let ended = page.len() < PAGE;
        entries.extend(page.into_iter().filter(|entry| matches!(entry.event, Event::Posted { .. })));
        if ended {
            break;
        }
    }
    entries.truncate(limit);
    Ok(entries)
}

/// A history for spreadsheets. Amounts are signed decimals with a point; times are UTC.
pub fn history_csv(entries: &[HistoryEntry]) -> String {
    let mut text = "time,block,transaction,purse,credits,balance,why,job,lease,machine,receipt,account,audit\n".to_owned();
    for entry in entries {
        let Event::Posted { purse, amount, balance, incoming, cause, .. } = &entry.event else { continue };
        let sign = if *incoming { "" } else { "-" };
        let parts = words::CauseParts::of(cause);
        let cells = [
            words::time(entry.time).replace(" UTC", ""),
            entry.height.to_string(),
            entry.transaction.map(|id| id.to_hex()).unwrap_or_default(),
            words::purse(*purse).to_owned(),
            format!("{sign}{}", words::aligned(*amount)),
            words::aligned(*balance),
            parts.kind.to_owned(),
            parts.job.map(|id| id.to_string()).unwrap_or_default(),
            parts.lease.map(|id| id.to_string()).unwrap_or_default(),
            parts.machine.map(|id| id.to_string()).unwrap_or_default(),
            parts.receipt.map(|number| number.to_string()).unwrap_or_default(),
            parts.account.map(|id| id.to_string()).unwrap_or_default(),
            parts.audit.map(|id| id.to_string()).unwrap_or_default(),
        ];
        // Ids, numbers and fixed words: none has a comma or a quote.
        text += &cells.join(",");
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{Credits, Hash, Height, JobId, LeaseId, MachineId, Posting, Purse, TimeMs};

    use super::*;

    fn entry(incoming: bool, cause: Posting, transaction: Option<Hash>) -> HistoryEntry {
        let event = Event::Posted {
            account: AccountId([1; 20]),
            purse: Purse::Earned,
            amount: Credits::from_micro(1_500_000),
            balance: Credits::from_credits(4),
            incoming,
            cause,
        };
        HistoryEntry { height: Height(7), time: TimeMs(1_795_613_460_000), index: 0, transaction, event }
    }

    #[test]
    fn a_spreadsheet_has_the_parts_of_every_entry_in_columns() {
        let id = Hash::of(b"transaction");
        let machine = MachineId([2; 20]);
        let payout = Posting::Payout { job: JobId(3), lease: LeaseId(4), machine, sequence: 5 };
        let csv = history_csv(&[entry(true, payout, Some(id)), entry(false, Posting::Escrow(JobId(6)), None)]);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.split(',').count() == 13), "{csv}");
        let first = format!("2026-11-25 13:31:00,7,{},earned,1.500000,4.000000,payout,job-3,lease-4,{machine},5,,", id.to_hex());
        assert_eq!(lines[1], first);
        assert_eq!(lines[2], "2026-11-25 13:31:00,7,,earned,-1.500000,4.000000,escrow,job-6,,,,,");
    }
}
