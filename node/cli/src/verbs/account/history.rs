use std::path::Path;

use deepmarket_api::HistoryEntry;
use deepmarket_types::Event;
use deepmarket_wallet::{accounts, words};

use crate::{
    error::{Outcome, io},
    output::{self, aligned},
    settings::Settings,
};

/// Entries that are shown where no limit is named.
const SHOWN: usize = 50;

pub async fn run(settings: &Settings, who: Option<&str>, limit: Option<usize>, csv: Option<&Path>) -> Outcome {
    let id = settings.accounts.resolve(who, settings.account_name())?;
    let client = settings.client()?;
    let limit = limit.unwrap_or(if csv.is_some() { usize::MAX } else { SHOWN });
    let entries = accounts::history(&client, id, limit).await?;
    if let Some(path) = csv {
        std::fs::write(path, accounts::history_csv(&entries)).map_err(io(path.display()))?;
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

fn describe(entries: &[HistoryEntry]) -> String {
    let rows = entries.iter().filter_map(|entry| match &entry.event {
        Event::Posted { purse, amount, balance, incoming, cause, .. } => Some(vec![
            output::time(entry.time),
            format!("{}{}", if *incoming { "+" } else { "-" }, aligned(*amount)),
            words::purse(*purse).to_owned(),
            aligned(*balance),
            words::cause(cause),
            entry.height.to_string(),
            entry.transaction.map_or("the block's end".into(), |id| format!("{}…", &id.to_hex()[..12])),
        ]),
        _ => None,
    });
    let header = ["time", "credits", "purse", "purse after it", "why", "block", "transaction"];
    output::table(&header, &[1, 3, 5], rows)
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{AccountId, Credits, Hash, Height, JobId, LeaseId, MachineId, Posting, Purse, TimeMs};

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
    }
}
