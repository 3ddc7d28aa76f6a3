use deepmarket_api::{AccountView, EstimateView};
use deepmarket_wallet::accounts;
use serde::Serialize;

use crate::{
    error::Outcome,
    output::{self, credits},
    settings::Settings,
};

/// What `account show` prints with `--json`.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    account: AccountView,
    estimate: EstimateView,
}

pub async fn run(settings: &Settings, who: Option<&str>) -> Outcome {
    let id = settings.accounts.resolve(who, settings.account_name())?;
    let client = settings.client()?;
    let shown = Shown { account: accounts::fetch(&client, id).await?, estimate: client.estimate(id).await? };
    settings.output.show(&shown, || describe(&shown.account, Some(&shown.estimate)))?;
    settings.output.next("deepmarket account statement (why the balance is what it is), deepmarket account days (30 days)");
    Ok(())
}

/// An account for people.
pub fn describe(account: &AccountView, estimate: Option<&EstimateView>) -> String {
    let mut rows = vec![
        ("account", account.id.to_string()),
        ("balance", credits(account.granted.checked_add(account.earned).unwrap_or_default())),
        ("  granted (for jobs only)", credits(account.granted)),
        ("  earned", credits(account.earned)),
        ("in escrow", credits(account.escrow)),
    ];
    if let Some(estimate) = estimate {
        rows.push(("profit expected in 24 hours", credits(estimate.profit)));
        rows.push(("cost expected in 24 hours", credits(estimate.cost)));
    }
    rows.extend([
        ("reliability", output::permille(account.reliability)),
        ("jobs", list(&account.jobs)),
        ("machines", account.machines.len().to_string()),
    ]);
    output::table(&["", ""], &[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    if items.is_empty() { "none".into() } else { items.iter().map(T::to_string).collect::<Vec<_>>().join(", ") }
}
