//! `lend verify`: what this machine has, which machine it is, and how fast it trains.

use std::{collections::BTreeSet, fs, path::Path, process::Command, time::Duration};

use deepmarket_job::protocol::{Reply, Request};
use deepmarket_types::{Hash, MachineConfig, Resources, SecretKey};

use crate::{TrainerError, TrainerLimits, TrainerProcess, WorkerError};

/// How long the timed benchmark may take.
const MEASURE_WITHIN: Duration = Duration::from_secs(60);
/// How long the GPUs' driver may take to name them: one that was just woken needs seconds, a broken one answers never.
const GPUS_WITHIN: Duration = Duration::from_secs(15);
/// One MiB in bytes.
const MIB: u64 = 1024 * 1024;

/// Measures this machine: cores, memory, free disk under `home`, CPU and GPU models, its fingerprint, and the trainer's speed
/// on one core over a benchmark with a random seed, so that the answer can't be prepared.
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
    let (cpu, ram_bytes, gpus) = (cpu_model(), ram_bytes().unwrap_or(0), gpu_models().await);
    Ok(MachineConfig {
        name: text(name),
        platform: text(&format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
        host: fingerprint(&identity(cpu.as_deref(), ram_bytes)),
        cpu: text(&cpu.unwrap_or_else(|| format!("unknown {}", std::env::consts::ARCH))),
        gpu: text(&distinct(&gpus)),
        resources: Resources {
            cores: std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32),
            gpus: gpus.len() as u32,
            ram_mib: ram_bytes / MIB,
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

/// The GPUs' models, one for each, as NVIDIA's tool lists them; none where there is no such tool or it finds none.
async fn gpu_models() -> Vec<String> {
    let mut command = tokio::process::Command::new("nvidia-smi");
    command.args(["--query-gpu=name", "--format=csv,noheader"]).stdin(std::process::Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(GPUS_WITHIN, command.output()).await {
        Ok(Ok(output)) if output.status.success() => models_in(&String::from_utf8_lossy(&output.stdout)),
        _ => Vec::new(),
    }
}

/// One model for each line that isn't empty.
fn models_in(list: &str) -> Vec<String> {
    list.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The different models, each once.
fn distinct(models: &[String]) -> String {
    let models: BTreeSet<&str> = models.iter().map(String::as_str).collect();
    models.into_iter().collect::<Vec<_>>().join(", ")
}

/// What tells this physical machine from others: where its name is from, and the name. The first that there is: the id that
/// the operating system was installed with, the mainboard's, Apple's. Without any, what describes the machine best; two
/// machines of one series are then the same to the market if they also have one host name.
fn identity(cpu: Option<&str>, ram_bytes: u64) -> (&'static str, String) {
    let file = |path| fs::read_to_string(path).ok().and_then(|text| machine_id(&text));
    let named = [
        ("machine-id", file("/etc/machine-id")),
        ("product-uuid", file("/sys/class/dmi/id/product_uuid")),
        ("platform-uuid", platform_uuid()),
    ];
    let found = named.into_iter().find_map(|(kind, id)| Some((kind, id?)));
    found.unwrap_or_else(|| {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        ("description", format!("{} {ram_bytes} {}", cpu.unwrap_or_default(), host.trim()))
    })
}

/// An id in the text of a file that has nothing else; none where it was never set.
fn machine_id(text: &str) -> Option<String> {
    let id = text.trim().to_ascii_lowercase();
    let digits = id.chars().filter(char::is_ascii_hexdigit);
    let is_set = digits.clone().count() >= 16 && digits.clone().any(|c| c != '0') && digits.clone().any(|c| c != 'f');
    is_set.then_some(id)
}

/// Apple's id of the machine.
fn platform_uuid() -> Option<String> {
    if !cfg!(target_os = "macos") {
        return None;
    }
    let output = Command::new("ioreg").args(["-rd1", "-c", "IOPlatformExpertDevice"]).output().ok()?;
    platform_uuid_in(&String::from_utf8_lossy(&output.stdout))
}

/// The id in what `ioreg` prints: `"IOPlatformUUID" = "…"`.
fn platform_uuid_in(list: &str) -> Option<String> {
    let line = list.lines().find_map(|line| line.trim().strip_prefix("\"IOPlatformUUID\""))?;
    machine_id(line.split('"').nth(1)?)
}

/// The same on every market, and says nothing of the id itself: that stays on the machine.
fn fingerprint((kind, id): &(&str, String)) -> Hash {
    Hash::tagged("deepmarket/v1/host", &[kind.as_bytes(), id.as_bytes()])
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
    fn gpus_are_counted_and_each_model_is_named_once() {
        let listed = models_in("NVIDIA H100 80GB HBM3\nNVIDIA H100 80GB HBM3\n\n");
        assert_eq!((listed.len(), distinct(&listed).as_str()), (2, "NVIDIA H100 80GB HBM3"));
        let mixed = models_in("Tesla T4\nNVIDIA A100\nTesla T4\n");
        assert_eq!((mixed.len(), distinct(&mixed).as_str()), (3, "NVIDIA A100, Tesla T4"));
        assert_eq!((models_in("").len(), distinct(&[]).as_str()), (0, ""));
    }

    #[test]
    fn a_machines_fingerprint_is_its_own_and_hides_its_id() {
        let id = "3f1f2e0c9a7b4d6e8f00112233445566";
        assert_eq!(machine_id(&format!("{id}\n")).as_deref(), Some(id));
        assert_eq!(machine_id(" 4C4C4544-0051-3010-8053-B4C04F4E4D32 \n"), machine_id("4c4c4544-0051-3010-8053-b4c04f4e4d32"));
        for unset in ["", "\n", "uninitialized\n", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]
        {
            assert_eq!(machine_id(unset), None, "{unset:?}");
        }
        let apple = "+-o Mac14,2\n    {\n      \"IOPlatformUUID\" = \"8A9A1B2C-0000-5D6E-9F00-0A1B2C3D4E5F\"\n    }\n";
        assert_eq!(platform_uuid_in(apple).as_deref(), Some("8a9a1b2c-0000-5d6e-9f00-0a1b2c3d4e5f"));
        assert_eq!(platform_uuid_in("nothing"), None);

        let one = fingerprint(&("machine-id", id.into()));
        assert!(!one.to_string().contains(id));
        assert_ne!(one, fingerprint(&("product-uuid", id.into())), "the same text from another place is another machine");
        assert_ne!(one, fingerprint(&("machine-id", id.replace('3', "4"))));
        assert_eq!(identity(Some("cpu"), 1), identity(Some("cpu"), 1), "asked twice, the same machine answers the same");
    }

    #[test]
    fn texts_are_made_to_fit() {
        assert_eq!(text(" a\tb\u{7} "), "ab");
        assert_eq!(text(&"x".repeat(200)).len(), MachineConfig::TEXT_LIMIT);
    }
}
