use std::path::Path;

use deepmarket_api::{Client, HistoryEntry};
use deepmarket_types::{AccountId, Event};

use crate::{
    error::{Outcome, io},
    output::{self, aligned},
    settings::Settings,
    verbs::events,
};

/// Entries that are shown where no limit is named.
const SHOWN: usize = 50;
/// Entries that a gateway gives at once.
const PAGE: usize = 500;

pub async fn run(settings: &Settings, who: Option<&str>, limit: Option<usize>, csv: Option<&Path>) -> Outcome {
    let id = settings.accounts.resolve(who, settings.account_name())?;
    let client = settings.client()?;
    let limit = limit.unwrap_or(if csv.is_some() { usize::MAX } else { SHOWN });
    let entries = fetch(&client, id, limit).await?;
    if let Some(path) = csv {
        std::fs::write(path, table_for_spreadsheets(&entries)).map_err(io(path.display()))?;
        let report = serde_json::json!({ "file": path, "entries": entries.len() });
        return settings.output.show(&report, || format!("{} entries are in {}", entries.len(), path.display()));
    }
    settings.output.show(&entries, || describe(&entries))?;
    if entries.len() == limit {
        settings.output.next(format!("--limit {} shows more; --csv FILE writes all", limit.saturating_mul(10)));
    } else {
        settings.output.next("deepmarket chain tx <transaction> shows one, deepmarket account statement sums them up");
    }
    Ok(())
}

/// The newest changes of the account's purses, newest first.
async fn fetch(client: &Client, id: AccountId, limit: usize) -> Outcome<Vec<HistoryEntry>> {
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

fn describe(entries: &[HistoryEntry]) -> String {
    let rows = entries.iter().filter_map(|entry| match &entry.event {
        Event::Posted { purse, amount, balance, incoming, cause, .. } => Some(vec![
            output::time(entry.time),
            format!("{}{}", if *incoming { "+" } else { "-" }, aligned(*amount)),
            events::purse(*purse).to_owned(),
            aligned(*balance),
            events::cause(cause),
            entry.height.to_string(),
            entry.transaction.map_or("the block's end".into(), |id| format!("{}…", &id.to_hex()[..12])),
        ]),
        _ => None,
    });
    let header = ["time", "credits", "purse", "purse after it", "why", "block", "transaction"];
    output::table(&header, &[1, 3, 5], rows)
}

/// Amounts are signed decimals with a point; times are UTC.
fn table_for_spreadsheets(entries: &[HistoryEntry]) -> String {
    let mut text = "time,block,transaction,purse,credits,balance,why,job,lease,machine,receipt,account\n".to_owned();
    for entry in entries {
        let Event::Posted { purse, amount, balance, incoming, cause, .. } = &entry.event else { continue };
        let sign = if *incoming { "" } else { "-" };
        let parts = events::CauseParts::of(cause);
        let cells = [
            output::time(entry.time).replace(" UTC", ""),
            entry.height.to_string(),
            entry.transaction.map(|id| id.to_hex()).unwrap_or_default(),
            events::purse(*purse).to_owned(),
            format!("{sign}{}", aligned(*amount)),
            aligned(*balance),
            parts.kind.to_owned(),
            parts.job.map(|id| id.to_string()).unwrap_or_default(),
            parts.lease.map(|id| id.to_string()).unwrap_or_default(),
            parts.machine.map(|id| id.to_string()).unwrap_or_default(),
            parts.receipt.map(|number| number.to_string()).unwrap_or_default(),
            parts.account.map(|id| id.to_string()).unwrap_or_default(),
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
    fn each_entry_names_its_transaction_its_receipt_and_the_balance_after_it() {
        let id = Hash::of(b"transaction");
        let machine = MachineId([2; 20]);
        let payout = Posting::Payout { job: JobId(3), lease: LeaseId(4), machine, sequence: 5 };
        let entries = [entry(true, payout, Some(id)), entry(false, Posting::Escrow(JobId(6)), None)];
        let text = describe(&entries);
        for part in ["+1.500000", "-1.500000", "4.000000", &id.to_hex()[..12], "the block's end", "receipt 5 of lease-4"] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
        let csv = table_for_spreadsheets(&entries);
        let lines: Vec<&str> = csv.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.split(',').count() == 12), "{csv}");
        let first = format!("2026-11-25 13:31:00,7,{},earned,1.500000,4.000000,payout,job-3,lease-4,{machine},5,", id.to_hex());
        assert_eq!(lines[1], first);
        assert_eq!(lines[2], "2026-11-25 13:31:00,7,,earned,-1.500000,4.000000,escrow,job-6,,,,");
    }
}
