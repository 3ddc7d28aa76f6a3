use std::{
    path::Path,
    time::{Duration, Instant},
};

use deepmarket_api::{Client, MachineView};
use deepmarket_types::{
    AccountId, Action, Availability, Credits, MachineConfig, MachineId, MachineState, Offer, Resources, SecretKey, WithdrawMode,
    machine_proof,
};
use deepmarket_worker::WorkerConfig;
use tokio_util::sync::CancellationToken;

use crate::{
    args::Lend,
    error::{Failure, Outcome},
    keys, output,
    processes::{stop_signal, trainer},
    settings::Settings,
    verbs::account,
};

/// How long offered machines may take to be seen by the market.
const CONTACT_DEADLINE: Duration = Duration::from_secs(30);

/// What is offered of a machine.
#[derive(Clone, Copy)]
pub struct Offering {
    pub cores: u32,
    pub ram_mib: u64,
    pub disk_mib: u64,
    pub min_core_hour: Credits,
}

impl Offering {
    /// What the local market lends of each machine.
    pub fn one_core() -> Offering {
        Offering { cores: 1, ram_mib: 1024, disk_mib: 1024, min_core_hour: Credits::ZERO }
    }
}

/// A machine that is on offer.
pub struct Lent {
    pub id: MachineId,
    pub config: MachineConfig,
}

pub async fn run(settings: &Settings, verb: Lend) -> Outcome {
    let machines = settings.home.join("machines");
    match verb {
        Lend::Verify { machine } => {
            let config = measure(&machines.join(&machine), &machine).await?;
            settings.output.show(&config, || describe(&config))?;
            settings.output.next("deepmarket lend start --cores 1 --ram-mib 1024");
            Ok(())
        }
        Lend::Start { machine, cores, ram_mib, disk_mib, min_price, listen } => {
            let stop = stop_signal(false)?;
            let client = settings.client()?;
            let owner = settings.signer()?;
            account::fetch(&client, AccountId::from_key(&owner.public())).await?;
            let dir = machines.join(&machine);
            settings.output.say("measuring this machine");
            let offering = Offering { cores, ram_mib, disk_mib, min_core_hour: min_price };
            let lent = offer(&client, &dir, &machine, &owner, offering).await?;
            settings.output.show(&lent.config, || format!("{}\nlent as {}", describe(&lent.config), lent.id))?;
            settings.output.next("deepmarket lend status, in another terminal; Ctrl-C here takes the machine back");
            serve(&client, &dir, &listen, stop).await?;
            client.act(&owner, Action::Withdraw { machine: lent.id, mode: WithdrawMode::AtOnce }).await?;
            settings.output.say("the machine is yours again");
            Ok(())
        }
        Lend::Run { dir, listen, with_parent } => {
            let stop = stop_signal(with_parent)?;
            serve(&settings.client()?, &dir, &listen, stop).await
        }
        Lend::Stop { machine, after_lease } => {
            let key = keys::read(&machines.join(&machine).join("key.json"))?;
            let mode = if after_lease { WithdrawMode::AfterLease } else { WithdrawMode::AtOnce };
            let action = Action::Withdraw { machine: MachineId::from_key(&key.public()), mode };
            let status = settings.client()?.act(&settings.signer()?, action).await?;
            settings.output.show(&status, || format!("the offer of '{machine}' ends ({mode:?})"))
        }
        Lend::Status { all, machine } => {
            let client = settings.client()?;
            let owner = if all { None } else { Some(settings.accounts.resolve(None, settings.account_name())?) };
            let mut views = client.machines(owner).await?;
            views.retain(|view| machine.is_none_or(|id| view.id == id));
            settings.output.show(&views, || list(&views))
        }
    }
}

/// Measures this machine with the trainer that will run on it.
async fn measure(dir: &Path, name: &str) -> Outcome<MachineConfig> {
    Ok(deepmarket_worker::measure(&trainer()?, name, dir).await?)
}

/// Measures a machine, registers it for its owner and offers a part of it.
pub async fn offer(client: &Client, dir: &Path, name: &str, owner: &SecretKey, offering: Offering) -> Outcome<Lent> {
    let key = keys::read_or_make(&dir.join("key.json"))?;
    let config = measure(dir, name).await?;
    let resources = Resources { cores: offering.cores, gpus: 0, ram_mib: offering.ram_mib, disk_mib: offering.disk_mib };
    if !config.resources.covers(&resources) {
        let has = config.resources;
        return Err(Failure::user(format!(
            "this machine has {} cores, {} MiB of memory and {} MiB of free disk: less than what should be lent",
            has.cores, has.ram_mib, has.disk_mib
        ))
        .hint("lend less with --cores, --ram-mib and --disk-mib"));
    }
    let id = MachineId::from_key(&key.public());
    let chain = client.status().await?.chain;
    let proof = machine_proof(&key, &chain, &owner.public(), &config);
    client.act(owner, Action::RegisterMachine { machine_key: key.public(), config: config.clone(), proof }).await?;
    let offer = Offer { resources, availability: Availability::Always, min_core_hour: offering.min_core_hour };
    client.act(owner, Action::Lend { machine: id, offer }).await?;
    Ok(Lent { id, config })
}

/// Works for others until stopped.
async fn serve(client: &Client, dir: &Path, listen: &str, stop: CancellationToken) -> Outcome {
    let config = WorkerConfig {
        home: dir.to_owned(),
        chain: client.status().await?.chain,
        key: keys::read(&dir.join("key.json"))?,
        client: client.clone(),
        listen: vec![listen.to_owned()],
        trainer: trainer()?,
    };
    Ok(deepmarket_worker::run(config, stop).await?)
}

/// Waits until the market is in contact with so many of the owner's machines.
pub async fn wait_until_idle(client: &Client, owner: &SecretKey, count: usize) -> Outcome {
    let owner = AccountId::from_key(&owner.public());
    let deadline = Instant::now() + CONTACT_DEADLINE;
    loop {
        let machines = client.machines(Some(owner)).await?;
        let ready = machines.iter().filter(|m| matches!(m.state, MachineState::Idle | MachineState::InUse)).count();
        if ready >= count {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::environment(format!("only {ready} of {count} machines came into contact with the market"))
                .hint("see the output.log files in the machines' folders"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn describe(config: &MachineConfig) -> String {
    let rows = [
        ("machine", config.name.clone()),
        ("platform", config.platform.clone()),
        ("CPU", config.cpu.clone()),
        ("cores", config.resources.cores.to_string()),
        ("memory", output::bytes(config.resources.ram_mib * 1024 * 1024)),
        ("free disk", output::bytes(config.resources.disk_mib * 1024 * 1024)),
        ("GPUs", config.resources.gpus.to_string()),
        ("training speed", format!("{} million multiply-adds/s on one core", config.speed)),
        ("trainer", config.trainer.clone()),
    ];
    output::table(&["", ""], &[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

fn list(machines: &[MachineView]) -> String {
    if machines.is_empty() {
        return "no machine is lent; lend this one with `deepmarket lend start`".into();
    }
    let rows = machines.iter().map(|m| {
        let offered = m.offer.map(|o| format!("{} cores, {} MiB", o.resources.cores, o.resources.ram_mib));
        let state = if m.reason.is_empty() { m.state.to_string() } else { m.reason.clone() };
        let leases = m.leases.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        vec![m.config.name.clone(), m.id.to_string(), offered.unwrap_or_default(), state, leases, output::aligned(m.earned)]
    });
    output::table(&["machine", "id", "offered", "state", "leases", "earned (credits)"], &[5], rows)
}
