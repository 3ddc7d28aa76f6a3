//! What a child does between fork and exec: it takes its place, and gives up everything else.
#![allow(unsafe_code)] // Code between fork and exec can't be set up without, and libc has no wrappers for landlock.

use std::{
    fs::File,
    io,
    mem::size_of,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::Command,
};

use rustix::{
    fs::{Mode, OFlags},
    process::{Pid, Resource, Rlimit, Signal, getpid, getppid, set_parent_process_death_signal, setpriority_process, setrlimit},
    thread::{CapabilitySet, CapabilitySets, CpuSet, sched_setaffinity, set_capabilities, set_no_new_privs},
};
use seccompiler::BpfProgram;

use super::cores::Cores;
use crate::limits::{Limits, MIB, STACK_MIB, TASKS, data_bytes};

/// How much the owner's programs go before a trainer: of a core that one of them wants too it gets a quarter. Less would starve
/// it on a busy machine, and a round has a deadline.
pub(crate) const NICE: i32 = 5;
/// Open files: standard input, output and error, and one at a time while libraries are loaded.
const OPEN_FILES: u64 = 16;
/// Address space that a process may map beyond its memory: allocators and loaders reserve more than they use.
const RESERVED_MIB: u64 = 8 * 1024;

/// All that a child needs at its start, prepared beforehand: between fork and exec it must not allocate.
pub(crate) struct Start {
    parent: Pid,
    groups: Vec<File>,
    cores: Option<CpuSet>,
    limits: Vec<(Resource, Rlimit)>,
    landlock: Option<OwnedFd>,
    filters: [BpfProgram; 2],
}

impl Start {
    pub fn new(
        groups: Vec<File>,
        cores: Option<&Cores>,
        limits: &Limits,
        landlock: Option<OwnedFd>,
        filters: [BpfProgram; 2],
    ) -> Start {
        Start { parent: getpid(), groups, cores: cores.map(Cores::set), limits: resource_limits(limits), landlock, filters }
    }

    /// Lets the command's child begin with it. The child ends where a step fails, and starting it returns that error.
    pub fn begin(self, command: &mut Command) {
        // SAFETY: between fork and exec only async-signal-safe functions may be called. `enter` makes system calls over memory
        // that was filled before the fork (rustix calls the kernel directly, seccompiler and libc through `syscall` and `prctl`),
        // allocates nothing, takes no lock and drops nothing.
        unsafe {
            command.pre_exec(move || self.enter());
        }
    }

    fn enter(&self) -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() != Some(self.parent) {
            // It died before it was asked for.
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        for group in &self.groups {
            rustix::io::write(group, b"0")?;
        }
        if let Some(cores) = &self.cores {
            sched_setaffinity(None, cores)?;
        }
        setpriority_process(None, NICE)?;
        for (resource, limit) in &self.limits {
            setrlimit(*resource, *limit)?;
        }
        close_at_exec();
        set_no_new_privs(true)?;
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
        if let Some(rules) = &self.landlock {
            allow_own_status(rules);
            restrict(rules)?;
        }
        for filter in &self.filters {
            seccompiler::apply_filter(filter).map_err(|_| io::Error::from_raw_os_error(libc::EPERM))?;
        }
        Ok(())
    }
}

/// No core dump, no file, few open files, no locked memory; data, stack and address space within what was lent. For root the
/// number of processes isn't limited by this but by its group.
fn resource_limits(limits: &Limits) -> Vec<(Resource, Rlimit)> {
    let mut wanted = vec![
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nofile, OPEN_FILES),
        (Resource::Nproc, TASKS),
        (Resource::Memlock, 0),
        (Resource::Msgqueue, 0),
        (Resource::Rtprio, 0),
        (Resource::Stack, STACK_MIB * MIB),
    ];
    if let Some(ram_mib) = limits.ram_mib {
        wanted.push((Resource::Data, data_bytes(ram_mib)));
        wanted.push((Resource::As, ram_mib.saturating_add(RESERVED_MIB).saturating_mul(MIB)));
    }
    // Only root may have more than it was left with.
    let lower = |(resource, limit): (Resource, u64)| {
        let limit = rustix::process::getrlimit(resource).maximum.map_or(limit, |maximum| maximum.min(limit));
        (resource, Rlimit { current: Some(limit), maximum: Some(limit) })
    };
    wanted.into_iter().map(lower).collect()
}

/// Whatever this process was started with open besides standard input, output and error. Rust's own files close at exec anyway;
/// kernels older than 5.11 leave it at that.
fn close_at_exec() {
    // SAFETY: it marks descriptors and touches no memory.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
}

/// `landlock_path_beneath_attr` of landlock(7).
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

/// Lets the child read how much memory it uses: `/proc/self` is another folder for each process, so that no rule could be made
/// before. Where it fails, that isn't known.
fn allow_own_status(rules: &OwnedFd) {
    let Ok(status) = rustix::fs::open(c"/proc/self/status", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else { return };
    const READ_FILE: u64 = 1 << 2;
    const RULE_PATH_BENEATH: libc::c_int = 1;
    let rule = PathBeneath { allowed_access: READ_FILE, parent_fd: status.as_raw_fd() };
    // SAFETY: both descriptors are open, and the rule lives during the call; the kernel copies it.
    unsafe {
        libc::syscall(libc::SYS_landlock_add_rule, rules.as_raw_fd(), RULE_PATH_BENEATH, &raw const rule, 0_u32);
    }
}

fn restrict(rules: &OwnedFd) -> io::Result<()> {
    // SAFETY: it takes an open descriptor and touches no memory.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0_u32) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The version of landlock that this kernel has; none without.
pub(crate) fn landlock_version() -> Option<u32> {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the kernel answers a number and reads no memory.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

const _: () = assert!(size_of::<PathBeneath>() == 12, "as the kernel has it");
