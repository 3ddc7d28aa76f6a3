//! What was lent, as numbers that a kernel understands.

/// One MiB in bytes.
pub(crate) const MIB: u64 = 1024 * 1024;
/// What a process's stack may hold.
pub(crate) const STACK_MIB: u64 = 8;
/// What the program's text and the system's libraries hold resident (measured: 9 MiB), with room.
const PROGRAM_MIB: u64 = 16;
/// Threads and processes that a child may have at the same time: a trainer computes with one.
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) const TASKS: u64 = 32;

/// What a child may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Cores; `None`: all of the machine's.
    pub cores: Option<u32>,
    /// Memory in MiB; `None`: what the machine has.
    pub ram_mib: Option<u64>,
    /// How they are enforced.
    pub means: Means,
}

/// How limits are enforced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Means {
    /// As well as this system can.
    #[default]
    Best,
    /// As on a system that gives this user no cgroups.
    WithoutCgroups,
    /// Only watched, and otherwise free: for stand-ins of tests, which need more than a trainer may.
    WatchedOnly,
}

/// Bytes of its own data that a process of `ram_mib` may have: the rest is for its stack, its text and the libraries, so that all
/// of it together stays resident within what was lent. At least half of what was lent.
pub fn data_bytes(ram_mib: u64) -> u64 {
    ram_mib.saturating_sub(STACK_MIB + PROGRAM_MIB).max(ram_mib / 2).saturating_mul(MIB)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_stack_and_program_fit_into_what_was_lent() {
        assert_eq!(data_bytes(1024), 1000 * MIB);
        assert_eq!(data_bytes(40), 20 * MIB);
        assert_eq!(data_bytes(0), 0);
        assert_eq!(data_bytes(u64::MAX), u64::MAX);
    }
}
