//! A fixed share of the processor for a machine's processes, by the kernel's cgroups: several workers fit on few cores then, and
//! each is as fast with others beside it as alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

/// The kernel hands out processor time in periods of this length: short against a round, so that being out of turn doesn't count.
const PERIOD_US: u64 = 10_000;

/// A control group. It goes with the last of its processes; drop it after they ended.
pub struct Quota {
    folder: PathBuf,
    is_v2: bool,
}

impl Quota {
    /// Makes a group that may use so many cores. Fails where the system doesn't let us.
    pub fn new(name: &str, cores: f64) -> Result<Quota, String> {
        let name = format!("deepmarket-bench-{}-{name}", std::process::id());
        let (parent, is_v2) = hierarchy().ok_or("this system has no cgroup controller of processors")?;
        let quota = Quota { folder: parent.join(name), is_v2 };
        fs::create_dir(&quota.folder).map_err(|e| format!("{}: {e}; it takes root", quota.folder.display()))?;
        quota.set(cores)?;
        Ok(quota)
    }

    /// Changes the number of cores, also of processes that run.
    pub fn set(&self, cores: f64) -> Result<(), String> {
        let quota_us = (cores * PERIOD_US as f64).round() as u64;
        let write = |file: &str, text: String| {
            let path = self.folder.join(file);
            fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))
        };
        if self.is_v2 {
            return write("cpu.max", format!("{quota_us} {PERIOD_US}"));
        }
        write("cpu.cfs_period_us", PERIOD_US.to_string())?;
        write("cpu.cfs_quota_us", quota_us.to_string())
    }

    /// A command that runs in the group, with all that it starts.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ > "$0" && exec "$@""#]).arg(self.folder.join("cgroup.procs")).arg(program);
        command
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // The kernel needs a moment after the last process ended.
        for _ in 0..50 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Where groups of processor time are made, and whether that is version 2.
fn hierarchy() -> Option<(PathBuf, bool)> {
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers");
    if fs::read_to_string(v2).is_ok_and(|controllers| controllers.split_whitespace().any(|name| name == "cpu")) {
        let root = Path::new("/sys/fs/cgroup");
        // Groups below the root get the controller only where the root hands it on.
        fs::write(root.join("cgroup.subtree_control"), "+cpu").ok()?;
        return Some((root.to_owned(), true));
    }
    let v1 = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"].map(Path::new);
    v1.into_iter().find(|path| path.join("cpu.cfs_quota_us").exists()).map(|path| (path.to_owned(), false))
}
