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
    let held = match account.vests {
        Some(vests) => format!("{}, the last of it vests at {}", credits(account.held), output::time(vests)),
        None => credits(account.held),
    };
    let mut rows = vec![
        ("account", account.id.to_string()),
        ("balance", credits(account.granted.checked_add(account.earned).unwrap_or_default())),
        ("  granted (for jobs only)", credits(account.granted)),
        ("  earned", credits(account.earned)),
        ("in escrow", credits(account.escrow)),
        ("held (earned, not vested)", held),
    ];
    if let Some(estimate) = estimate {
        rows.push(("profit expected in 24 hours", credits(estimate.profit)));
        rows.push(("cost expected in 24 hours", credits(estimate.cost)));
    }
    rows.extend([
        ("reliability", output::permille(account.reliability)),
        ("valid audits", account.audits_passed.to_string()),
        ("strikes", strikes(account)),
        ("jobs", list(&account.jobs)),
        ("machines", account.machines.len().to_string()),
    ]);
    output::table(&["", ""], &[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

fn strikes(account: &AccountView) -> String {
    match account.barred {
        true => format!("{}: its machines take no work any more", account.strikes),
        false => account.strikes.to_string(),
    }
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    if items.is_empty() { "none".into() } else { items.iter().map(T::to_string).collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{AccountId, Credits, SecretKey, TimeMs};

    use super::*;

    #[test]
    fn an_account_says_what_is_held_until_when_and_what_audits_found() {
        let key = SecretKey::from_seed([1; 32]).public();
        let mut account = AccountView {
            id: AccountId::from_key(&key),
            key,
            nonce: 0,
            granted: Credits::from_credits(50),
            earned: Credits::from_credits(2),
            escrow: Credits::ZERO,
            held: Credits::from_micro(70_000),
            vests: Some(TimeMs(1_795_613_460_000)),
            audits_passed: 12,
            strikes: 1,
            barred: false,
            reliability: 900,
            jobs: vec![],
            machines: vec![],
        };
        let text = describe(&account, None);
        for part in ["0.07 credits, the last of it vests at 2026-11-25 13:31:00 UTC", "valid audits", "12", "strikes"] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
        account.barred = true;
        assert!(describe(&account, None).contains("take no work any more"));
    }
}
