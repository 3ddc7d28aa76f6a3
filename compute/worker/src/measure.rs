//! `lend verify`: what this machine has, and how fast it trains.

use std::{fs, path::Path, process::Command, time::Duration};

use deepmarket_job::protocol::{Reply, Request};
use deepmarket_types::{MachineConfig, Resources, SecretKey};

use crate::{TrainerError, TrainerLimits, TrainerProcess, WorkerError};

/// How long the timed benchmark may take.
const MEASURE_WITHIN: Duration = Duration::from_secs(60);
/// One MiB in bytes.
const MIB: u64 = 1024 * 1024;

/// Measures this machine: cores, memory, free disk under `home`, CPU model, and the trainer's speed on one core over a
/// benchmark with a random seed, so that the answer can't be prepared.
pub async fn measure(trainer: &Path, name: &str, home: &Path) -> Result<MachineConfig, WorkerError> {
    fs::create_dir_all(home).map_err(WorkerError::home(home))?;
    let random = SecretKey::generate().seed();
    let seed = u64::from_le_bytes(random[..8].try_into().expect("eight of 32 bytes"));
    let mut process = TrainerProcess::spawn(trainer, &TrainerLimits::default())?;
    let (speed, trainer) = match process.ask(&Request::Measure { seed }, MEASURE_WITHIN).await? {
        Reply::Measured { mega_multiply_adds_per_s, trainer, .. } => (mega_multiply_adds_per_s, trainer),
        _ => return Err(TrainerError::Confused { asked: "Measure", answer: "something else" }.into()),
    };
    process.stop().await;
    Ok(MachineConfig {
        name: text(name),
        platform: text(&format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        cpu: text(&cpu_model().unwrap_or_else(|| format!("unknown {}", std::env::consts::ARCH))),
        resources: Resources {
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            gpus: 0,
            ram_mib: ram_bytes().unwrap_or(0) / MIB,
            disk_mib: free_disk_bytes(home).map_err(WorkerError::home(home))? / MIB,
        },
        speed,
        trainer: text(&trainer),
    })
}

/// What fits into a field of [`MachineConfig`].
fn text(raw: &str) -> String {
    raw.trim().chars().filter(|c| !c.is_control()).take(MachineConfig::TEXT_LIMIT).collect()
}

fn cpu_model() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    model_in(&info).or_else(|| sysctl("machdep.cpu.brand_string"))
}

/// The CPU's name in the text of `/proc/cpuinfo` (x86 calls it `model name`, some ARM kernels `Model` or `Hardware`).
fn model_in(info: &str) -> Option<String> {
    ["model name", "Model", "Hardware"].iter().find_map(|wanted| {
        let mut pairs = info.lines().filter_map(|line| line.split_once(':'));
        pairs.find(|(field, _)| field.trim() == *wanted).map(|(_, value)| value.trim().to_owned()).filter(|v| !v.is_empty())
    })
}

/// The memory that this process could have: the machine's, or less in a container.
fn ram_bytes() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let machine = memory_in(&info).or_else(|| sysctl("hw.memsize")?.parse().ok())?;
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let container = limits.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok()).min();
    Some(container.map_or(machine, |limit| limit.min(machine)))
}

/// The machine's memory in the text of `/proc/meminfo`, in bytes.
fn memory_in(info: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// A value of macOS and the BSDs.
fn sysctl(name: &str) -> Option<String> {
    let output = Command::new("sysctl").args(["-n", name]).output().ok().filter(|output| output.status.success())?;
    let value = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!value.is_empty()).then_some(value)
}

#[cfg(unix)]
fn free_disk_bytes(folder: &Path) -> std::io::Result<u64> {
    let status = rustix::fs::statvfs(folder)?;
    Ok(status.f_bavail.saturating_mul(status.f_frsize))
}

#[cfg(not(unix))]
fn free_disk_bytes(_folder: &Path) -> std::io::Result<u64> {
    Err(std::io::Error::other("free disk space is not known on this platform"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_and_memory_are_read_as_linux_writes_them() {
        let x86 = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 1\nmodel name\t: AMD EPYC 7763\n";
        assert_eq!(model_in(x86).as_deref(), Some("AMD EPYC 7763"));
        assert_eq!(
            model_in("processor\t: 0\nHardware\t: BCM2835\nModel\t\t: Raspberry Pi 4\n").as_deref(),
            Some("Raspberry Pi 4")
        );
        assert_eq!(model_in("processor : 0\n"), None);
        assert_eq!(memory_in("MemTotal:       16318412 kB\nMemFree: 1 kB\n"), Some(16_318_412 * 1024));
        assert_eq!(memory_in(""), None);
    }

    #[test]
    fn this_machine_has_memory_and_disk() {
        assert!(ram_bytes().unwrap() > 64 * MIB);
        assert!(free_disk_bytes(&std::env::temp_dir()).unwrap() > 0);
    }

    #[test]
    fn texts_are_made_to_fit() {
        assert_eq!(text(" a\tb\u{7} "), "ab");
        assert_eq!(text(&"x".repeat(200)).len(), MachineConfig::TEXT_LIMIT);
    }
}
