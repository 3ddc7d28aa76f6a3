use std::{fs, path::Path};

use deepmarket_types::MachineConfig;
use deepmarket_wallet::{
    files::{make_private_folder, write_whole},
    this_computer::Measurement,
};
use deepmarket_worker::{Guard, GuardState};
use serde::Serialize;

use super::machine;
use crate::{
    error::{Failure, Outcome, io, of_worker},
    output,
    processes::trainer,
    settings::Settings,
    verbs::validator::now,
};

/// What `lend verify` prints with `--json`.
#[derive(Serialize)]
struct Verified {
    #[serde(flatten)]
    config: MachineConfig,
    /// What this system enforces of a job's confinement.
    guards: Vec<Guard>,
}

pub async fn run(settings: &Settings, name: &str) -> Outcome {
    let folder = machine::folder(settings, name)?;
    settings.output.say("measuring this machine");
    let verified = Verified { config: measure(&folder, name).await?, guards: deepmarket_worker::guards() };
    settings.output.show(&verified, || format!("{}\n{}", describe(&verified.config), confinement(&verified.guards)))?;
    settings.output.next("deepmarket lend evaluate --cores 50% --ram-mib 50%");
    Ok(())
}

/// Measures this machine with the trainer that will run on it, and keeps the result in its folder.
pub async fn measure(folder: &Path, name: &str) -> Outcome<MachineConfig> {
    // The machine's key will lie there, too.
    make_private_folder(folder)?;
    let config = deepmarket_worker::measure(&trainer()?, name, folder).await.map_err(of_worker)?;
    let measurement = Measurement { measured: now(), config };
    let text = serde_json::to_string_pretty(&measurement).map_err(Failure::bug)?;
    write_whole(&folder.join("config.json"), text.as_bytes())?;
    Ok(measurement.config)
}

/// The last measurement; none where there is none, or one that another release wrote in its own way.
pub fn last(folder: &Path) -> Outcome<Option<Measurement>> {
    let path = folder.join("config.json");
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).map_err(io(path.display()))?;
    Ok(serde_json::from_str(&text).ok())
}

/// A machine for people.
pub fn describe(config: &MachineConfig) -> String {
    let gpus = match config.resources.gpus {
        0 => "none".to_owned(),
        count => format!("{count} × {}", config.gpu),
    };
    let rows = [
        ("machine", config.name.clone()),
        ("platform", config.platform.clone()),
        ("CPU", config.cpu.clone()),
        ("cores", config.resources.cores.to_string()),
        ("memory", output::bytes(config.resources.ram_mib * 1024 * 1024)),
        ("free disk", output::bytes(config.resources.disk_mib * 1024 * 1024)),
        ("GPUs", gpus),
        ("training speed", format!("{} million multiply-adds/s on one core", config.speed)),
        ("trainer", config.trainer.clone()),
        ("fingerprint", config.host.to_string()),
    ];
    output::table(&["", ""], &[], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]))
}

/// What holds a job, for people, and a word where something doesn't.
fn confinement(guards: &[Guard]) -> String {
    let rows = guards.iter().map(|guard| vec![guard.name.to_string(), guard.state.to_string(), guard.how.clone()]);
    let table = output::table(&["a job's", "is", "by"], &[], rows);
    let open: Vec<String> =
        guards.iter().filter(|guard| guard.state == GuardState::NotEnforced).map(|guard| guard.name.to_string()).collect();
    match open.is_empty() {
        true => format!("{table}\n"),
        false => format!("{table}\nnot enforced on this system: {}; lend it only to borrowers whom you trust\n", open.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{Hash, Resources, TimeMs};
    use deepmarket_worker::GuardName;

    use super::*;

    #[test]
    fn a_measurement_comes_back_and_one_of_another_release_is_none() {
        let folder = tempfile::tempdir().unwrap();
        assert!(last(folder.path()).unwrap().is_none());
        let config = MachineConfig {
            name: "m".into(),
            platform: "linux x86_64".into(),
            cpu: "cpu".into(),
            gpu: "NVIDIA H100".into(),
            host: Hash::of(b"host"),
            resources: Resources { cores: 2, gpus: 2, ram_mib: 4096, disk_mib: 4096 },
            speed: 1_000,
            trainer: "0".into(),
        };
        assert!(describe(&config).contains("2 × NVIDIA H100"));
        let measurement = Measurement { measured: TimeMs(5), config };
        let path = folder.path().join("config.json");
        fs::write(&path, serde_json::to_string(&measurement).unwrap()).unwrap();
        let read = last(folder.path()).unwrap().unwrap();
        assert_eq!((read.measured, read.config), (TimeMs(5), measurement.config));
        fs::write(&path, "{\"cores\": 2}").unwrap();
        assert!(last(folder.path()).unwrap().is_none());
    }

    #[test]
    fn what_is_not_enforced_is_said() {
        let guard = |name, state, how: &str| Guard { name, state, how: how.into() };
        let mut guards = vec![guard(GuardName::Network, GuardState::Enforced, "seccomp")];
        assert!(!confinement(&guards).contains("trust"));
        guards.push(guard(GuardName::Cores, GuardState::NotEnforced, "low priority only"));
        let text = confinement(&guards);
        for part in ["network", "seccomp", "low priority only", "not enforced on this system: cores;"] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
    }
}
