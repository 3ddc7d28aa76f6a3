use std::path::Path;

use deepmarket_api::{AccountView, Client, VoucherRequest};
use deepmarket_types::{AccountId, Action, Event, Posting, SecretKey, Voucher};

use crate::{
    args::Account,
    error::{Failure, Outcome, io},
    keys,
    output::{self, credits},
    settings::Settings,
};

pub async fn run(settings: &Settings, verb: Account) -> Outcome {
    match verb {
        Account::Open { name, identity, voucher } => {
            let identity = identity.unwrap_or_else(|| name.clone());
            open(settings, &name, &identity, voucher.as_deref()).await
        }
        Account::Show { who } => {
            let id = settings.accounts.resolve(who.as_deref(), settings.account_name())?;
            let account = fetch(&settings.client()?, id).await?;
            settings.output.show(&account, || describe(&account))
        }
        Account::History { who, limit } => history(settings, who.as_deref(), limit).await,
        Account::Ls => {
            let mut rows = Vec::new();
            for name in settings.accounts.names()? {
                let id = settings.accounts.resolve(Some(&name), None)?;
                rows.push((name, id));
            }
            settings.output.show(&rows, || {
                output::table(&["name", "account"], &[], rows.iter().map(|(name, id)| vec![name.clone(), id.to_string()]))
            })
        }
        Account::Transfer { to, amount } => {
            let to = settings.accounts.resolve(Some(&to), None)?;
            let status = settings.client()?.act(&settings.signer()?, Action::Transfer { to, amount }).await?;
            settings.output.show(&status, || format!("sent {} to {to} (transaction {})", credits(amount), status.id))
        }
    }
}

async fn open(settings: &Settings, name: &str, identity: &str, voucher: Option<&Path>) -> Outcome {
    let client = settings.client()?;
    let path = settings.accounts.path(name)?;
    // The key is on disk before the chain hears of it; a second try after a lost connection finds it again.
    let key = keys::read_or_make(&path)?;
    let id = AccountId::from_key(&key.public());
    let known = client.account(id).await?.is_some();
    if known {
        return Err(Failure::user(format!("the account '{name}' is open already: {id}")).hint("choose another --name"));
    }
    let voucher = match voucher {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(io(path.display()))?;
            serde_json::from_str(&text).map_err(|e| Failure::user(format!("{} is not a voucher: {e}", path.display())))?
        }
        None => client.voucher(&VoucherRequest { identity: identity.to_owned(), key: key.public() }).await?,
    };
    open_with(&client, &key, voucher).await?;
    let account = fetch(&client, id).await?;
    settings.output.show(&account, || format!("account '{name}' is open\n{}", describe(&account)))?;
    settings.output.next("deepmarket data add <folder> --name <name>, or deepmarket lend start");
    Ok(())
}

async fn open_with(client: &Client, key: &SecretKey, voucher: Voucher) -> Outcome {
    client.act(key, Action::OpenAccount { voucher }).await?;
    Ok(())
}

/// Opens the account of a key with the gateway's registrar, unless it is open.
pub async fn open_if_new(client: &Client, key: &SecretKey, identity: &str) -> Outcome<AccountView> {
    let id = AccountId::from_key(&key.public());
    if client.account(id).await?.is_none() {
        let request = VoucherRequest { identity: identity.to_owned(), key: key.public() };
        open_with(client, key, client.voucher(&request).await?).await?;
    }
    fetch(client, id).await
}

/// The account, or an error that says what to do.
pub async fn fetch(client: &Client, id: AccountId) -> Outcome<AccountView> {
    client.account(id).await?.ok_or_else(|| {
        Failure::user(format!("the market knows no account {id}")).hint("open one with `deepmarket account open`").code(2002)
    })
}

fn describe(account: &AccountView) -> String {
    let rows = [
        ("account", account.id.to_string()),
        ("balance", credits(account.granted.checked_add(account.earned).unwrap_or_default())),
        ("  granted (for jobs only)", credits(account.granted)),
        ("  earned", credits(account.earned)),
        ("in escrow", credits(account.escrow)),
        ("jobs", list(&account.jobs)),
        ("machines", account.machines.len().to_string()),
    ];
    output::table(&["", ""], &[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    if items.is_empty() { "none".into() } else { items.iter().map(T::to_string).collect::<Vec<_>>().join(", ") }
}

async fn history(settings: &Settings, who: Option<&str>, limit: usize) -> Outcome {
    let id = settings.accounts.resolve(who, settings.account_name())?;
    let entries = settings.client()?.account_history(id, None, limit).await?;
    settings.output.show(&entries, || {
        let rows = entries.iter().filter_map(|entry| match &entry.event {
            Event::Posted { purse, amount, incoming, cause, .. } => Some(vec![
                output::time(entry.time),
                entry.height.to_string(),
                format!("{}{}", if *incoming { "+" } else { "-" }, output::aligned(*amount)),
                format!("{purse:?}").to_lowercase(),
                cause_text(cause),
            ]),
            _ => None,
        });
        output::table(&["time", "block", "credits", "purse", "why"], &[2], rows)
    })
}

fn cause_text(cause: &Posting) -> String {
    match cause {
        Posting::StartingCredits => "starting credits".into(),
        Posting::TransferFrom(who) => format!("from {who}"),
        Posting::TransferTo(who) => format!("to {who}"),
        Posting::Escrow(job) => format!("escrow of {job}"),
        Posting::Refund(job) => format!("left of the escrow of {job}"),
        Posting::Payout { job, lease, sequence } => format!("work for {job}, {lease}, receipt {sequence}"),
    }
}
