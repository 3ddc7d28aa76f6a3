//! Seccomp: the system calls that a confined program may make. These are lists of what is allowed: a call that a later kernel
//! brings isn't.
//!
//! A call that is on no list is answered with "no such call" (ENOSYS), as an older kernel would, so that the C library falls back
//! to one that is; what an attacker would want is refused by name (EPERM), so that the reason is seen.

use std::collections::BTreeMap;

use libc as c;
use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule};

use crate::SandboxError;

/// An argument's number, the bits of it that matter, and what they must be.
type Condition = (u8, u64, u64);

/// A system call, and with which arguments: one of the alternatives must hold with all its conditions; without any, always.
struct Call(i64, &'static [&'static [Condition]]);

const fn any(number: i64) -> Call {
    Call(number, &[])
}

const PRIVATE: Condition = (3, (c::MAP_SHARED | c::MAP_PRIVATE) as u64, c::MAP_PRIVATE as u64);
const NOT_EXECUTABLE: Condition = (2, c::PROT_EXEC as u64, 0);
const WRITES: u64 = (c::O_WRONLY | c::O_RDWR | c::O_CREAT | c::O_TRUNC | c::O_APPEND) as u64;
const NAMESPACES: u64 = 0x7e02_0080;
const ALL: u64 = 0xffff_ffff;

/// What computing and answering over pipes needs.
const COMPUTING: &[Call] = &[
    any(c::SYS_read),
    any(c::SYS_write),
    any(c::SYS_readv),
    any(c::SYS_writev),
    any(c::SYS_pread64),
    any(c::SYS_close),
    any(c::SYS_munmap),
    any(c::SYS_mremap),
    any(c::SYS_madvise),
    any(c::SYS_brk),
    any(c::SYS_futex),
    any(c::SYS_getrandom),
    any(c::SYS_clock_gettime),
    any(c::SYS_clock_getres),
    any(c::SYS_clock_nanosleep),
    any(c::SYS_nanosleep),
    any(c::SYS_gettimeofday),
    any(c::SYS_rt_sigaction),
    any(c::SYS_rt_sigprocmask),
    any(c::SYS_rt_sigreturn),
    any(c::SYS_sigaltstack),
    any(c::SYS_restart_syscall),
    any(c::SYS_sched_yield),
    any(c::SYS_sched_getaffinity),
    any(c::SYS_getcpu),
    any(c::SYS_getpid),
    any(c::SYS_gettid),
    any(c::SYS_getrusage),
    any(c::SYS_exit),
    any(c::SYS_exit_group),
];

/// What computing needs besides, once the program is loaded: memory, but none that is executable.
const MEMORY: &[Call] = &[Call(c::SYS_mmap, &[&[PRIVATE, NOT_EXECUTABLE]]), Call(c::SYS_mprotect, &[&[NOT_EXECUTABLE]])];

/// What the start of a program needs besides: it is executed and loaded, reads files (which ones, landlock says), and
/// confines itself further. Memory is never shared: shared memory isn't counted as a process's data.
const STARTING: &[Call] = &[
    any(c::SYS_execve),
    Call(c::SYS_mmap, &[&[PRIVATE]]),
    any(c::SYS_mprotect),
    Call(c::SYS_openat, &[&[(2, WRITES, 0)]]),
    any(c::SYS_newfstatat),
    any(c::SYS_fstat),
    any(c::SYS_statx),
    any(c::SYS_lseek),
    any(c::SYS_getdents64),
    any(c::SYS_readlinkat),
    any(c::SYS_faccessat),
    any(c::SYS_getcwd),
    any(c::SYS_uname),
    any(c::SYS_sysinfo),
    any(c::SYS_getppid),
    any(c::SYS_getuid),
    any(c::SYS_geteuid),
    any(c::SYS_getgid),
    any(c::SYS_getegid),
    any(c::SYS_set_tid_address),
    any(c::SYS_set_robust_list),
    any(c::SYS_rseq),
    any(c::SYS_ppoll),
    Call(c::SYS_prlimit64, &[&[(0, ALL, 0)]]),
    Call(
        c::SYS_fcntl,
        &[
            &[(1, ALL, c::F_GETFD as u64)],
            &[(1, ALL, c::F_SETFD as u64)],
            &[(1, ALL, c::F_GETFL as u64)],
            &[(1, ALL, c::F_DUPFD_CLOEXEC as u64)],
        ],
    ),
    Call(
        c::SYS_prctl,
        &[
            &[(0, ALL, c::PR_SET_NAME as u64)],
            &[(0, ALL, c::PR_SET_VMA as u64)],
            &[(0, ALL, c::PR_SET_NO_NEW_PRIVS as u64)],
            &[(0, ALL, c::PR_SET_SECCOMP as u64)],
            // `PR_GET_AUXV`: what the processor can.
            &[(0, ALL, 0x4155_5856)],
            // It may ask for nothing but its death.
            &[(0, ALL, c::PR_SET_PDEATHSIG as u64), (1, ALL, c::SIGKILL as u64)],
        ],
    ),
    any(c::SYS_seccomp),
    any(c::SYS_landlock_create_ruleset),
    any(c::SYS_landlock_add_rule),
    any(c::SYS_landlock_restrict_self),
];

/// Threads, where something limits their number.
const THREADS: &[Call] = &[Call(c::SYS_clone, &[&[(0, c::CLONE_THREAD as u64 | NAMESPACES, c::CLONE_THREAD as u64)]])];

/// The same of older architectures.
#[cfg(target_arch = "x86_64")]
const STARTING_HERE: &[Call] = &[
    any(c::SYS_arch_prctl),
    any(c::SYS_access),
    any(c::SYS_readlink),
    any(c::SYS_poll),
    any(c::SYS_time),
    Call(c::SYS_open, &[&[(1, WRITES, 0)]]),
];
#[cfg(not(target_arch = "x86_64"))]
const STARTING_HERE: &[Call] = &[];

/// What is refused by name: other machines, other processes, other programs, the kernel, and the limits themselves.
const REFUSED: &[Call] = &[
    any(c::SYS_socket),
    any(c::SYS_socketpair),
    any(c::SYS_connect),
    any(c::SYS_bind),
    any(c::SYS_listen),
    any(c::SYS_accept4),
    any(c::SYS_sendto),
    any(c::SYS_sendmsg),
    any(c::SYS_sendmmsg),
    Call(c::SYS_clone, &[&[(0, c::CLONE_THREAD as u64, 0)]]),
    any(c::SYS_execveat),
    any(c::SYS_kill),
    any(c::SYS_tkill),
    any(c::SYS_tgkill),
    any(c::SYS_rt_sigqueueinfo),
    any(c::SYS_rt_tgsigqueueinfo),
    any(c::SYS_pidfd_open),
    any(c::SYS_pidfd_getfd),
    any(c::SYS_pidfd_send_signal),
    any(c::SYS_ptrace),
    any(c::SYS_process_vm_readv),
    any(c::SYS_process_vm_writev),
    any(c::SYS_openat2),
    Call(
        c::SYS_openat,
        &[
            &[(2, c::O_WRONLY as u64, c::O_WRONLY as u64)],
            &[(2, c::O_RDWR as u64, c::O_RDWR as u64)],
            &[(2, c::O_CREAT as u64, c::O_CREAT as u64)],
        ],
    ),
    any(c::SYS_open_by_handle_at),
    any(c::SYS_unlinkat),
    any(c::SYS_renameat2),
    any(c::SYS_mkdirat),
    any(c::SYS_mknodat),
    any(c::SYS_symlinkat),
    any(c::SYS_linkat),
    any(c::SYS_fchmodat),
    any(c::SYS_fchownat),
    any(c::SYS_utimensat),
    any(c::SYS_truncate),
    any(c::SYS_setxattr),
    any(c::SYS_memfd_create),
    any(c::SYS_memfd_secret),
    any(c::SYS_shmget),
    any(c::SYS_shmat),
    Call(c::SYS_mmap, &[&[(3, c::MAP_SHARED as u64, c::MAP_SHARED as u64)]]),
    any(c::SYS_mlock),
    any(c::SYS_mlockall),
    any(c::SYS_io_uring_setup),
    any(c::SYS_bpf),
    any(c::SYS_perf_event_open),
    any(c::SYS_userfaultfd),
    any(c::SYS_add_key),
    any(c::SYS_request_key),
    any(c::SYS_keyctl),
    any(c::SYS_mount),
    any(c::SYS_umount2),
    any(c::SYS_pivot_root),
    any(c::SYS_chroot),
    any(c::SYS_unshare),
    any(c::SYS_setns),
    any(c::SYS_kexec_load),
    any(c::SYS_init_module),
    any(c::SYS_finit_module),
    any(c::SYS_reboot),
    any(c::SYS_swapon),
    any(c::SYS_capset),
    any(c::SYS_setuid),
    any(c::SYS_setresuid),
    any(c::SYS_setpgid),
    any(c::SYS_setsid),
    any(c::SYS_sched_setaffinity),
    any(c::SYS_sched_setscheduler),
    any(c::SYS_sched_setattr),
    any(c::SYS_setpriority),
    any(c::SYS_ioprio_set),
];

/// The same of older architectures.
#[cfg(target_arch = "x86_64")]
const REFUSED_HERE: &[Call] = &[
    any(c::SYS_accept),
    any(c::SYS_fork),
    any(c::SYS_vfork),
    Call(
        c::SYS_open,
        &[
            &[(1, c::O_WRONLY as u64, c::O_WRONLY as u64)],
            &[(1, c::O_RDWR as u64, c::O_RDWR as u64)],
            &[(1, c::O_CREAT as u64, c::O_CREAT as u64)],
        ],
    ),
    any(c::SYS_creat),
    any(c::SYS_unlink),
    any(c::SYS_rename),
    any(c::SYS_mkdir),
    any(c::SYS_symlink),
    any(c::SYS_link),
    any(c::SYS_chmod),
    any(c::SYS_chown),
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_HERE: &[Call] = &[];

/// Around the start of a program: two filters, to be applied in this order.
pub(crate) fn starting(threads: bool) -> Result<[BpfProgram; 2], SandboxError> {
    let absent = SeccompAction::Errno(c::ENOSYS as u32);
    let refused = SeccompAction::Errno(c::EPERM as u32);
    Ok([
        filter(&[COMPUTING, STARTING, STARTING_HERE, if threads { THREADS } else { &[] }], absent, SeccompAction::Allow)?,
        filter(&[REFUSED, REFUSED_HERE], SeccompAction::Allow, refused)?,
    ])
}

/// For a trainer that has started.
pub(crate) fn computing() -> Result<BpfProgram, SandboxError> {
    filter(&[COMPUTING, MEMORY], SeccompAction::Errno(c::EPERM as u32), SeccompAction::Allow)
}

fn filter(lists: &[&[Call]], otherwise: SeccompAction, on_list: SeccompAction) -> Result<BpfProgram, SandboxError> {
    let rules: Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> =
        lists.iter().copied().flatten().map(|Call(number, alternatives)| Ok((*number, rules_of(alternatives)?))).collect();
    let program = rules.and_then(|rules| {
        let architecture = std::env::consts::ARCH.try_into()?;
        SeccompFilter::new(rules, otherwise, on_list, architecture)?.try_into()
    });
    program.map_err(|e| SandboxError::new("seccomp", e))
}

fn rules_of(alternatives: &[&[Condition]]) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let condition = |(argument, bits, value): &Condition| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(*bits), *value)
    };
    alternatives.iter().map(|all| SeccompRule::new(all.iter().map(condition).collect::<Result<_, _>>()?)).collect()
}
