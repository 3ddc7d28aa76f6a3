//! Landlock: which files there are for a confined process, and that no TCP, signal or abstract socket leaves it.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, Scope,
};

use crate::SandboxError;

/// The newest rights that this program knows; older kernels enforce what they know of them.
const KNOWN: ABI = ABI::V6;
/// Where systems keep what programs are linked with, and nothing of anybody's.
const LIBRARIES: &[&str] =
    &["/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/gnu/store", "/nix/store"];
/// What else a trainer's start reads: where its libraries are, how its allocator shall behave, and the caches that its matrix
/// kernels are blocked for.
const START: &[&str] = &[
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/proc/sys/vm/overcommit_memory",
    "/sys/kernel/mm/transparent_hugepage/enabled",
    "/sys/devices/system/cpu",
];

fn refused(error: impl std::fmt::Display) -> SandboxError {
    SandboxError::new("landlock", error)
}

/// A set of rules that allows nothing yet.
fn nothing() -> Result<RulesetCreated, SandboxError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(KNOWN)))
        .and_then(|rules| rules.scope(Scope::from_all(KNOWN)))
        .and_then(Ruleset::create)
        .map_err(refused)
}

/// From now on this thread opens no file.
pub(crate) fn close_all() -> Result<(), SandboxError> {
    nothing()?.restrict_self().map(|_| ()).map_err(refused)
}

/// The rules under which a program can start and load itself, and the programs that they let run; none where the kernel has no
/// landlock.
pub(crate) fn of_program(programs: &[PathBuf]) -> Result<Option<OwnedFd>, SandboxError> {
    let mut rules = nothing()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    for path in LIBRARIES.iter().chain(START) {
        rules = allow(rules, Path::new(path), read)?;
    }
    for program in programs {
        rules = allow(rules, program, AccessFs::Execute | AccessFs::ReadFile)?;
    }
    Ok(rules.into())
}

/// A path that isn't there needs no rule.
fn allow(rules: RulesetCreated, path: &Path, access: BitFlags<AccessFs>) -> Result<RulesetCreated, SandboxError> {
    let Ok(opened) = PathFd::new(path) else { return Ok(rules) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(KNOWN) };
    rules.add_rule(PathBeneath::new(opened, access)).map_err(refused)
}
