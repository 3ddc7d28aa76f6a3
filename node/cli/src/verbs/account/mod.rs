//! Accounts: opening one, and every way to look at what it has and why.

mod days;
mod history;
mod open;
mod show;
mod statement;

use std::collections::BTreeMap;

use deepmarket_api::Client;
use deepmarket_types::{AccountId, Action, JobId, MachineId};

use crate::{
    args::Account,
    error::Outcome,
    output::{self, credits},
    settings::Settings,
};

pub async fn run(settings: &Settings, verb: Account) -> Outcome {
    match verb {
        Account::Open { name, identity, voucher } => {
            let identity = identity.unwrap_or_else(|| name.clone());
            open::run(settings, &name, &identity, voucher.as_deref()).await
        }
        Account::Show { who } => show::run(settings, who.as_deref()).await,
        Account::History { who, limit, csv } => history::run(settings, who.as_deref(), limit, csv.as_deref()).await,
        Account::Days { who, days } => days::run(settings, who.as_deref(), days).await,
        Account::Statement { who } => statement::run(settings, who.as_deref()).await,
        Account::Ls => list(settings),
        Account::Transfer { to, amount } => {
            let to = settings.accounts.resolve(Some(&to), None)?;
            let status = settings.client()?.act(&settings.signer()?, Action::Transfer { to, amount }).await?;
            settings.output.show(&status, || format!("sent {} to {to} (transaction {})", credits(amount), status.id))?;
            settings.output.next("deepmarket account history");
            Ok(())
        }
    }
}

fn list(settings: &Settings) -> Outcome {
    let mut rows = Vec::new();
    for name in settings.accounts.names()? {
        let id = settings.accounts.resolve(Some(&name), None)?;
        rows.push((name, id));
    }
    settings.output.show(&rows, || {
        output::table(&["name", "account"], &[], rows.iter().map(|(name, id)| vec![name.clone(), id.to_string()]))
    })?;
    match rows.first() {
        None => settings.output.next("deepmarket account open --name alice --identity alice@pdx.edu"),
        Some((name, _)) => settings.output.next(format!("deepmarket account show {name}")),
    }
    Ok(())
}

/// Names of an account's machines and jobs, so that lists can say more than ids.
struct Names {
    machines: BTreeMap<MachineId, String>,
    jobs: BTreeMap<JobId, String>,
}

impl Names {
    async fn fetch(client: &Client, owner: AccountId) -> Outcome<Names> {
        let machines = client.machines(Some(owner)).await?.into_iter().map(|machine| (machine.id, machine.config.name));
        let jobs = client.jobs(Some(owner)).await?.into_iter().map(|job| (job.id, job.name));
        Ok(Names { machines: machines.collect(), jobs: jobs.collect() })
    }

    fn machine(&self, id: MachineId) -> String {
        self.machines.get(&id).map_or_else(|| id.to_string(), |name| machine_label(id, name))
    }

    fn job(&self, id: JobId) -> String {
        self.jobs.get(&id).map_or_else(|| id.to_string(), |name| job_label(id, name))
    }
}

/// `lab7 (dmm1qqqq…)`: names need not be unique.
fn machine_label(id: MachineId, name: &str) -> String {
    let short: String = id.to_string().chars().take(12).collect();
    format!("{name} ({short}…)")
}

/// `job-3 'mnist'`.
fn job_label(id: JobId, name: &str) -> String {
    format!("{id} '{name}'")
}
