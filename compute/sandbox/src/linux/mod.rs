//! Linux: cgroups, landlock, seccomp, resource limits. All but cgroups work without root.

pub(crate) mod cgroup;
pub(crate) mod child;
pub(crate) mod cores;
pub(crate) mod files;
pub(crate) mod hierarchy;
pub(crate) mod loader;
mod own;
pub(crate) mod syscalls;

pub use own::{confine_self, limit_self};
