//! Looks at what a trainer uses while it runs: where the kernel doesn't hold it to what was lent, this does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use deepmarket_sandbox::usage_of_child;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

/// How often a trainer is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_millis(200);
/// One MiB in bytes.
const MIB: u64 = 1024 * 1024;

/// Looks at a trainer until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    excess: Arc<AtomicU64>,
    peak: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl Watch {
    /// Ends the child where it holds more than `ram_mib` resident.
    pub fn start(pid: u32, ram_mib: u64) -> Watch {
        let (excess, peak) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let task = tokio::spawn(look(pid, ram_mib, excess.clone(), peak.clone()));
        Watch { excess, peak, _task: AbortOnDropHandle::new(task) }
    }

    /// The most MiB that the child was seen to hold.
    pub fn peak_mib(&self) -> u64 {
        self.peak.load(Ordering::Relaxed)
    }

    /// The MiB that the child held when it was ended for them.
    pub fn excess_mib(&self) -> Option<u64> {
        Some(self.excess.load(Ordering::Acquire)).filter(|mib| *mib > 0)
    }
}

async fn look(pid: u32, ram_mib: u64, excess: Arc<AtomicU64>, peak: Arc<AtomicU64>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(usage) = usage_of_child(pid) else { return };
        peak.fetch_max(usage.peak_bytes.div_ceil(MIB), Ordering::Relaxed);
        let resident_mib = usage.resident_bytes.div_ceil(MIB);
        if resident_mib > ram_mib {
            excess.store(resident_mib, Ordering::Release);
            end_group(pid);
            return;
        }
    }
}

/// Ends a child with all of its process group.
#[cfg(unix)]
pub(crate) fn end_group(pid: u32) {
    use rustix::process::{Pid, Signal, kill_process_group};
    if let Some(group) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        kill_process_group(group, Signal::KILL).ok();
    }
}

/// Ends a child.
#[cfg(not(unix))]
pub(crate) fn end_group(pid: u32) {
    std::process::Command::new("taskkill").args(["/F", "/T", "/PID", &pid.to_string()]).output().ok();
}
