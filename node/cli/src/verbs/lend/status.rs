use std::time::{Duration, Instant};

use deepmarket_api::{Client, MachineView};
use deepmarket_types::{AccountId, MachineReason, MachineState, Resources, SecretKey};

use super::{machine, offer};
use crate::{
    error::{Failure, Outcome},
    output::{self, aligned},
    settings::Settings,
    verbs::market,
    when::{self, MarketClock},
};

/// How long offered machines may take to be seen by the market.
const CONTACT_DEADLINE: Duration = Duration::from_secs(30);

pub async fn run(settings: &Settings, all: bool, name: Option<&str>) -> Outcome {
    let client = settings.client()?;
    let clock = market::clock(&client).await?;
    if let Some(name) = name {
        let view = machine::find(settings, &client, name).await?;
        settings.output.show(&[&view], || describe(&view, &clock))?;
        settings.output.next(match view.offer {
            Some(_) => format!("deepmarket lend change --machine {} --cores 1 (or --hours, --min-price, …)", view.id),
            None => format!("deepmarket lend change --machine {} --cores 1 offers it; its worker must run", view.id),
        });
        return Ok(());
    }
    let owner = if all { None } else { Some(settings.accounts.resolve(None, settings.account_name())?) };
    let views = client.machines(owner).await?;
    settings.output.show(&views, || list(&views, &clock))?;
    match views.first() {
        None => settings.output.next("deepmarket lend start, or deepmarket lend invite for a remote machine"),
        Some(view) => settings.output.next(format!("deepmarket lend status --machine {}", view.id)),
    }
    Ok(())
}

/// Waits until the market is in contact with so many of the owners' machines.
pub async fn wait_until_idle(client: &Client, owners: &[SecretKey], count: usize) -> Outcome {
    let deadline = Instant::now() + CONTACT_DEADLINE;
    loop {
        let mut machines = Vec::new();
        for owner in owners {
            machines.extend(client.machines(Some(AccountId::from_key(&owner.public()))).await?);
        }
        let ready = machines.iter().filter(|m| matches!(m.state, MachineState::Idle | MachineState::InUse)).count();
        if ready >= count {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::environment(format!("only {ready} of {count} machines came into contact with the market"))
                .with_hint("see the output.log files in the machines' folders"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn list(machines: &[MachineView], clock: &MarketClock) -> String {
    if machines.is_empty() {
        return "no machine is lent".into();
    }
    let rows = machines.iter().map(|m| {
        let offered = m.offer.map(|o| offer::resources(&o.resources));
        let change = m.pending.map(|o| format!("\nthen {}", offer::resources(&o.resources)));
        let hours = m.offer.map_or(String::new(), |o| when::availability(&o.availability, clock));
        let minimum = m.offer.map_or(String::new(), |o| offer::minimum(&o.minimum));
        vec![
            format!("{}\n{}", m.config.name, m.id),
            format!("{}\n{}", m.state, why(m, clock)),
            format!("{}{}", offered.unwrap_or_else(|| "nothing".into()), change.unwrap_or_default()),
            format!("{hours}\n{minimum}").trim().to_owned(),
            output::permille(m.reliability),
            speed(m).to_string(),
            m.leases.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            aligned(m.earned),
        ]
    });
    let header = ["machine", "state", "offered", "when, at least", "reliability", "speed", "leases", "earned"];
    output::table(&header, &[4, 5, 7], rows)
}

/// As its leases showed it, else as measured; in million multiply-adds a second.
fn speed(machine: &MachineView) -> u64 {
    if machine.observed_speed > 0 { machine.observed_speed } else { machine.config.speed }
}

/// Why it stands where it does, and since or until when.
pub fn why(machine: &MachineView, clock: &MarketClock) -> String {
    match machine.why {
        MachineReason::OutsideHours { opens: Some(opens) } => format!("{} until {}", machine.reason, clock.show(opens)),
        _ => machine.reason.clone(),
    }
}

/// Earned, and held until the work can't be found false any more.
fn held(machine: &MachineView, clock: &MarketClock) -> String {
    match machine.vests {
        Some(vests) => format!("{}, the last of it vests at {}", output::credits(machine.held), clock.show(vests)),
        None => output::credits(machine.held),
    }
}

fn audits(machine: &MachineView) -> String {
    let now = machine.auditing.map(|audit| format!("computes {audit} now; ")).unwrap_or_default();
    let strikes = match machine.strikes {
        0 => "no strike".to_owned(),
        1 => "1 strike".to_owned(),
        strikes => format!("{strikes} strikes"),
    };
    format!("{now}{} of its owner's work found right, {strikes}", machine.audits_passed)
}

fn describe(m: &MachineView, clock: &MarketClock) -> String {
    let leases = m.leases.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let observed = match m.observed_speed {
        0 => "no lease has shown it yet".to_owned(),
        speed => format!("{speed} as its leases showed it"),
    };
    let mut rows = vec![
        ("machine", m.config.name.clone()),
        ("id", m.id.to_string()),
        ("owner", m.owner.to_string()),
        ("state", format!("{}: {}", m.state, why(m, clock))),
        ("offer", m.offer.map_or("none".into(), |offer| offer::sentence(&offer, clock))),
        ("in use", if m.used == Resources::default() { "nothing".into() } else { offer::resources(&m.used) }),
        ("leases", if leases.is_empty() { "none".into() } else { leases }),
        (
            "reliability",
            format!("{} ({} leases served, {} lost)", output::permille(m.reliability), m.leases_finished, m.leases_lost),
        ),
        ("speed", format!("{} million multiply-adds/s measured; {observed}", m.config.speed)),
        ("has", offer::resources(&m.config.resources)),
        ("earned", output::credits(m.earned)),
        ("held", held(m, clock)),
        ("audits", audits(m)),
        ("market's clock", clock.zone()),
    ];
    if let Some(pending) = m.pending {
        rows.insert(5, ("then", format!("{}, once its leases have ended", offer::sentence(&pending, clock))));
    }
    output::table(&["", ""], &[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{Credits, Hash, LeaseId, MachineConfig, MachineId, SlotClock, TimeMs};

    use super::*;
    use crate::verbs::lend::Offering;

    fn view() -> MachineView {
        let key = SecretKey::from_seed([1; 32]).public();
        let resources = Resources { cores: 4, gpus: 0, ram_mib: 8192, disk_mib: 8192 };
        let config = MachineConfig {
            name: "lab".into(),
            platform: "linux x86_64".into(),
            cpu: "cpu".into(),
            gpu: String::new(),
            host: Hash::of(b"host"),
            resources,
            speed: 1_234,
            trainer: "0".into(),
        };
        MachineView {
            id: MachineId::from_key(&key),
            owner: AccountId::from_key(&key),
            key,
            nonce: 0,
            config,
            offer: Some(Offering::one_core().of(&resources).unwrap()),
            pending: None,
            state: MachineState::Idle,
            why: MachineReason::OutsideHours { opens: Some(TimeMs(1_795_615_200_000)) },
            reason: "outside its hours".into(),
            used: Resources::default(),
            reliability: 875,
            observed_speed: 0,
            leases_finished: 3,
            leases_lost: 1,
            leases: vec![LeaseId(7)],
            earned: Credits::from_micro(1_500_000),
            held: Credits::from_micro(2_500),
            vests: Some(TimeMs(1_795_615_200_000)),
            auditing: Some(deepmarket_types::AuditId(4)),
            audits_passed: 6,
            strikes: 0,
        }
    }

    #[test]
    fn a_machine_is_shown_with_why_it_stands_where_it_does() {
        let clock = MarketClock { slots: SlotClock { slot_ms: 21_600_000, utc_offset_ms: 0 }, now: TimeMs(1_795_613_460_000) };
        let mut machine = view();
        let text = list(&[machine.clone()], &clock);
        for part in [
            "lab",
            "outside its hours until 2026-11-25 14:00",
            "1 core, 1.0 GiB memory",
            "any price",
            "87.5 %",
            "1234",
            "1.500000",
        ] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
        machine.observed_speed = 999;
        machine.pending = machine.offer;
        let text = describe(&machine, &clock);
        for part in [
            "0.0025 credits, the last of it vests at 2026-11-25 14:00",
            "computes audit-4 now; 6 of its owner's work",
            "no strike",
        ] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
        for part in
            ["once its leases have ended", "3 leases served, 1 lost", "999 as its leases showed it", "1234 million", "lease-7"]
        {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
        assert_eq!(list(&[], &clock), "no machine is lent");
    }
}
