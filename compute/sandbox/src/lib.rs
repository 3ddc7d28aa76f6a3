//! What a stranger's job can't do to the machine that it runs on (DESIGN section 8; `compute/SANDBOX.md` names the attacks and
//! their tests).
//!
//! ```text
//! agent ── Confinement::prepare ── fork ──▶ child: cgroup, cores, limits, no privileges, landlock, seccomp ── exec ──▶ trainer
//!   │                                                                                                         │
//!   └─ Watched: resident memory, several times a second             confine_self: opens nothing more, no threads, no programs
//! ```
//!
//! There are two layers. The agent confines its child before the trainer's program starts, so that a program that was put in the
//! trainer's place is confined as well: it can load itself and compute, and nothing else. The trainer then gives up what only its
//! start needed, before it reads the first byte of a job.
//!
//! What a system can't enforce isn't hidden: [`guards`] says of each guard whether it is enforced, and how. Nothing here decides
//! what a job is allowed: no job is allowed anything.

mod confinement;
mod guard;
mod limits;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;
mod usage;

pub use confinement::{Confinement, guards};
pub use guard::{Guard, GuardName, GuardState};
pub use limits::{Limits, Means, data_bytes};
#[cfg(target_os = "linux")]
pub use linux::{confine_self, limit_self};
#[cfg(not(target_os = "linux"))]
pub use other::{confine_self, limit_self};
pub use usage::{Usage, usage_of_child};

/// The whole environment of a trainer: its allocator takes memory from the system when it is used, not a gibibyte ahead. What is
/// taken ahead counts as used, and a trainer of 1 GiB would have spent its limit before its first tensor.
pub const ENVIRONMENT: (&str, &str) = ("MIMALLOC_ARENA_EAGER_COMMIT", "0");

/// Why a process can't be confined. It must not run then.
#[derive(Debug, thiserror::Error)]
#[error("the trainer can't be confined ({what}): {why}; it doesn't run unconfined")]
pub struct SandboxError {
    what: &'static str,
    why: String,
}

impl SandboxError {
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    pub(crate) fn new(what: &'static str, why: impl ToString) -> SandboxError {
        SandboxError { what, why: why.to_string() }
    }
}
