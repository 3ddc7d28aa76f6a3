//! What the trainer's process may not do. All of it works without root, and all of it is of Linux: elsewhere the limits are
//! the worker's business, which watches its child.

/// Why the process could not be confined; it must not go on then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxError(String);

impl std::fmt::Display for SandboxError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the trainer could not be confined: {}; it refuses to run unconfined", self.0)
    }
}

impl std::error::Error for SandboxError {}

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::BTreeMap;

    use rustix::{
        process::{Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit},
        thread::set_no_new_privs,
        time::{ClockId, clock_gettime},
    };
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

    use super::SandboxError;

    /// System calls that a trainer has no use for: the network, other programs, other processes.
    const DENIED: &[i64] = &[
        libc::SYS_socket,
        libc::SYS_socketpair,
        libc::SYS_connect,
        libc::SYS_bind,
        libc::SYS_listen,
        libc::SYS_accept4,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_io_uring_setup,
        libc::SYS_bpf,
        libc::SYS_kexec_load,
        libc::SYS_mount,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_keyctl,
        libc::SYS_perf_event_open,
    ];

    /// Dies with its parent, gains no privileges, opens no socket, starts no program.
    pub fn confine() -> Result<(), SandboxError> {
        let error = |what: &'static str| move |e: &dyn std::fmt::Display| SandboxError(format!("{what}: {e}"));
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| error("parent death signal")(&e))?;
        if getppid().is_none() {
            return Err(SandboxError("its parent ended before it began".into()));
        }
        set_no_new_privs(true).map_err(|e| error("no new privileges")(&e))?;
        let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> = DENIED.iter().map(|call| (*call, Vec::new())).collect();
        let architecture = std::env::consts::ARCH.try_into().map_err(|e: seccompiler::BackendError| error("seccomp")(&e))?;
        let refused = SeccompAction::Errno(libc::EPERM as u32);
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, architecture).map_err(|e| error("seccomp")(&e))?;
        let program: BpfProgram = filter.try_into().map_err(|e: seccompiler::BackendError| error("seccomp")(&e))?;
        seccompiler::apply_filter(&program).map_err(|e| error("seccomp")(&e))
    }

    /// Lets this process have at most so much memory of its own; an allocation beyond it fails.
    pub fn limit_ram_mib(mib: u64) -> Result<(), SandboxError> {
        let bytes = Some(mib.saturating_mul(1024 * 1024));
        let limit = Rlimit { current: bytes, maximum: bytes };
        setrlimit(Resource::Data, limit).map_err(|e| SandboxError(format!("memory limit: {e}")))?;
        let no_core = Rlimit { current: Some(0), maximum: Some(0) };
        setrlimit(Resource::Core, no_core).map_err(|e| SandboxError(format!("core limit: {e}")))
    }

    /// CPU time of this process in milliseconds.
    pub fn cpu_ms() -> u64 {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        time.tv_sec.unsigned_abs() * 1000 + time.tv_nsec.unsigned_abs() / 1_000_000
    }

    /// Peak memory of this process in MiB.
    pub fn peak_ram_mib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
        kib.unwrap_or(0).div_ceil(1024)
    }
}

#[cfg(target_os = "linux")]
pub use linux::{confine, cpu_ms, limit_ram_mib, peak_ram_mib};

/// Nothing outside Linux.
#[cfg(not(target_os = "linux"))]
pub fn confine() -> Result<(), SandboxError> {
    Ok(())
}

/// Nothing outside Linux: the worker watches its child.
#[cfg(not(target_os = "linux"))]
pub fn limit_ram_mib(_mib: u64) -> Result<(), SandboxError> {
    Ok(())
}

/// Time since the first call outside Linux: an upper bound of the CPU time of one thread.
#[cfg(not(target_os = "linux"))]
pub fn cpu_ms() -> u64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_millis() as u64
}

/// Not known outside Linux.
#[cfg(not(target_os = "linux"))]
pub fn peak_ram_mib() -> u64 {
    0
}

/// CPU cores that this process may use.
pub(crate) fn cores() -> u32 {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::{io::ErrorKind, net::UdpSocket, process::Command, thread};

    #[test]
    fn a_confined_thread_opens_no_socket_and_starts_no_program() {
        // The filter holds for the thread that asks for it.
        let confined = thread::spawn(|| {
            super::confine().unwrap();
            (UdpSocket::bind("127.0.0.1:0").map(|_| ()), Command::new("true").status().map(|_| ()))
        });
        let (socket, program) = confined.join().unwrap();
        assert_eq!(socket.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(program.unwrap_err().kind(), ErrorKind::PermissionDenied);
        UdpSocket::bind("127.0.0.1:0").expect("other threads go on");
    }

    #[test]
    fn peak_memory_and_cpu_time_are_known() {
        assert!(super::peak_ram_mib() > 0);
        let _ = super::cpu_ms();
    }
}
