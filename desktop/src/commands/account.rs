//! The account: history, transactions, receipts, the statement, transfers.

use std::path::Path;

use deepmarket_api::Client;
use deepmarket_types::{AccountId, Action, Credits, Hash, Height, JobId};
use deepmarket_wallet::{accounts, files::write_whole, jobs};

use crate::{
    convert::{self, Names},
    error::{Answer, BAD_INPUT, NOT_KNOWN, bug},
    state::Pluto,
    view::{CommandError, Entry, HistoryPage, Place, ReceiptView, Statement, Transaction},
};

/// Entries that a gateway gives at once.
const PAGE: usize = 500;
/// The most entries of one page of the history.
const MAX_LIMIT: usize = 1_000;

#[tauri::command]
pub async fn history(app: Pluto<'_>, before: Option<Place>, limit: usize) -> Answer<HistoryPage> {
    let session = app.session()?;
    let (_, client) = app.checked().await?;
    let before = before.map(|place| (Height(place.height), place.index));
    page(&client, session.id, before, limit.clamp(1, MAX_LIMIT)).await
}

/// Entries of purses; other events of the account are passed over.
async fn page(client: &Client, id: AccountId, mut before: Option<(Height, u32)>, limit: usize) -> Answer<HistoryPage> {
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let events = client.account_history(id, before, PAGE).await?;
        for event in &events {
            before = Some((event.height, event.index));
            entries.extend(convert::entry(event));
            if entries.len() == limit {
                break;
            }
        }
        let next = before.map(|(height, index)| Place { height: height.0, index });
        if entries.len() == limit {
            return Ok(HistoryPage { entries, next });
        }
        if events.len() < PAGE {
            return Ok(HistoryPage { entries, next: None });
        }
    }
}

#[tauri::command]
pub async fn export_history(app: Pluto<'_>, path: String) -> Answer<usize> {
    let session = app.session()?;
    let (_, client) = app.checked().await?;
    let entries = accounts::history(&client, session.id, usize::MAX).await?;
    write_whole(Path::new(&path), accounts::history_csv(&entries).as_bytes())?;
    Ok(entries.len())
}

#[tauri::command]
pub async fn transaction(app: Pluto<'_>, id: String) -> Answer<Transaction> {
    let unknown = || CommandError::new(NOT_KNOWN, format!("the market knows no transaction {id}"), "check the id");
    let hash: Hash = id.trim().parse().map_err(|_| unknown())?;
    let (_, client) = app.checked().await?;
    let status = client.transaction(hash).await?.ok_or_else(unknown)?;
    let body = status.transaction.as_ref().ok_or_else(|| bug("a gateway told of a transaction without giving it"))?;
    let block = match status.height {
        Some(height) => client.block(Some(height)).await?,
        None => None,
    };
    Ok(Transaction {
        id: status.id.to_hex(),
        height: status.height.map(|height| height.0),
        time: block.as_ref().map(|block| block.header.time.0),
        action: body.body.action.name().into(),
        signer: body.body.signer.to_string(),
        nonce: body.body.nonce,
        code: status.code.unwrap_or_default(),
        message: status.message.clone(),
        json: serde_json::to_string_pretty(body).map_err(bug)?,
        block: block.as_ref().map(|block| block.hash.to_hex()),
        signers: block.map_or(0, |block| block.signers.len() as u32),
    })
}

#[tauri::command]
pub async fn receipts(app: Pluto<'_>, job: JobId) -> Answer<Vec<ReceiptView>> {
    let (_, client) = app.checked().await?;
    Ok(jobs::history(&client, job).await?.iter().filter_map(convert::receipt).collect())
}

#[tauri::command]
pub async fn statement(app: Pluto<'_>) -> Answer<Statement> {
    let session = app.session()?;
    let (_, client) = app.checked().await?;
    let id = session.id;
    let (statement, machines, jobs) = futures::try_join!(client.statement(id), client.machines(Some(id)), client.jobs(Some(id)))?;
    let names = Names {
        machines: machines.into_iter().map(|machine| (machine.id, machine.config.name)).collect(),
        jobs: jobs.into_iter().map(|job| (job.id, job.name)).collect(),
    };
    Ok(convert::statement(&statement, &names))
}

#[tauri::command]
pub async fn transfer(app: Pluto<'_>, to: String, amount: String) -> Answer<String> {
    let session = app.session()?;
    let (to, amount) = read_transfer(session.id, &to, &amount)?;
    let (_, client) = app.checked().await?;
    let status = client.act(&session.key, Action::Transfer { to, amount }).await?;
    Ok(status.id.to_hex())
}

/// What is signed is exactly what was typed.
fn read_transfer(from: AccountId, to: &str, amount: &str) -> Answer<(AccountId, Credits)> {
    let to: AccountId = to.trim().parse().map_err(|_| {
        let message = format!("'{}' is not an account", to.trim().chars().take(80).collect::<String>());
        CommandError::new(BAD_INPUT, message, "copy the whole id of the account: it begins with dm1")
    })?;
    if to == from {
        return Err(CommandError::new(BAD_INPUT, "this is your own account", "give the id of another one"));
    }
    let hint = "write digits with at most six decimals, like 12.5";
    let credits: Credits = amount
        .trim()
        .parse()
        .map_err(|_| CommandError::new(BAD_INPUT, format!("'{}' is not an amount of credits", amount.trim()), hint))?;
    match credits.is_zero() {
        true => Err(CommandError::new(BAD_INPUT, "nothing would be sent", "give an amount above 0")),
        false => Ok((to, credits)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_read_exactly_and_never_goes_to_oneself() {
        let (me, other) = (AccountId([1; 20]), AccountId([2; 20]));
        let read = |to: AccountId, amount: &str| read_transfer(me, &format!(" {to} "), amount);
        assert_eq!(read(other, " 12.5 ").unwrap(), (other, Credits::from_micro(12_500_000)));
        assert_eq!(read(other, "0.000001").unwrap().1, Credits::from_micro(1));
        for bad in ["", "0", "0.0", "-1", "1,5", "1.0000001", "1e3", "18446744073710"] {
            assert_eq!(read(other, bad).unwrap_err().code, BAD_INPUT, "{bad}");
        }
        assert!(read(me, "1").unwrap_err().message.contains("own account"));
        assert!(read_transfer(me, "dmm1xyz", "1").unwrap_err().message.contains("not an account"));
    }
}
