//! How the trainer's process gives up what it may do, and how it knows what it uses afterwards.

use std::sync::OnceLock;

use deepmarket_sandbox::SandboxError;

/// Confines this process for good (`deepmarket_sandbox::confine_self`). What computing would read from the system later is read
/// before: how many cores there are, how matrix products are cut ([`fix_blocking`](crate::fix_blocking)), and the place where the kernel tells how
/// much memory is used.
pub fn confine() -> Result<(), SandboxError> {
    cores();
    open_status();
    crate::fix_blocking();
    deepmarket_sandbox::confine_self()
}

/// CPU cores that this process may use.
pub(crate) fn cores() -> u32 {
    static CORES: OnceLock<u32> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32))
}

/// CPU time of this process in milliseconds.
#[cfg(target_os = "linux")]
pub fn cpu_ms() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
}

/// Time since the first call outside Linux: an upper bound of the CPU time of one thread.
#[cfg(not(target_os = "linux"))]
pub fn cpu_ms() -> u64 {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_millis() as u64
}

/// Where Linux tells what this process uses; it stays open, because nothing can be opened later.
#[cfg(target_os = "linux")]
fn open_status() -> Option<&'static std::fs::File> {
    static STATUS: OnceLock<Option<std::fs::File>> = OnceLock::new();
    STATUS.get_or_init(|| std::fs::File::open("/proc/self/status").ok()).as_ref()
}

#[cfg(not(target_os = "linux"))]
fn open_status() {}

/// Peak memory of this process in MiB; 0 where it isn't known.
#[cfg(target_os = "linux")]
pub fn peak_ram_mib() -> u64 {
    use std::os::unix::fs::FileExt as _;
    let mut text = [0; 4096];
    let read = open_status().and_then(|status| status.read_at(&mut text, 0).ok()).unwrap_or(0);
    let status = String::from_utf8_lossy(&text[..read]);
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = peak.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0).div_ceil(1024)
}

/// Not known outside Linux.
#[cfg(not(target_os = "linux"))]
pub fn peak_ram_mib() -> u64 {
    0
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn peak_memory_and_cpu_time_are_known() {
        assert!(super::peak_ram_mib() > 0);
        assert!(super::cores() > 0);
        let _ = super::cpu_ms();
    }
}
