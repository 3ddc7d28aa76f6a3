//! Where there is neither landlock nor seccomp: the agent watches its child.

use crate::SandboxError;

/// Nothing: this system has no way for a process to give up what it may do.
pub fn confine_self() -> Result<(), SandboxError> {
    Ok(())
}

/// Nothing: the agent watches its child.
pub fn limit_self(_ram_mib: Option<u64>) -> Result<(), SandboxError> {
    Ok(())
}
