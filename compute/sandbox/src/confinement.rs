//! A child's confinement, from before its start to after its end.

use std::process::Command;

use crate::{Guard, GuardName, GuardState, Limits, Means, SandboxError};

/// The confinement of one child. Keep it while the child runs: its control group is removed when this is dropped, with whatever
/// still runs in it.
#[derive(Debug)]
pub struct Confinement {
    #[cfg(target_os = "linux")]
    group: Option<crate::linux::cgroup::Group>,
    /// They are free for others when this is dropped.
    #[cfg(target_os = "linux")]
    _cores: Option<crate::linux::cores::Cores>,
    guards: Vec<Guard>,
}

/// What this system enforces of a job's confinement, tried out with a small one.
pub fn guards() -> Vec<Guard> {
    let program = std::env::current_exe().unwrap_or_default();
    let limits = Limits { cores: Some(1), ram_mib: Some(256), ..Limits::default() };
    match Confinement::prepare(&mut Command::new(&program), &limits) {
        Ok(confinement) => confinement.guards,
        Err(error) => ALL.iter().map(|name| Guard::new(*name, GuardState::NotEnforced, error.to_string())).collect(),
    }
}

/// In the order in which people read them.
const ALL: [GuardName; 8] = [
    GuardName::Network,
    GuardName::Files,
    GuardName::Processes,
    GuardName::Privileges,
    GuardName::Memory,
    GuardName::Cores,
    GuardName::Priority,
    GuardName::End,
];

impl Confinement {
    /// Whether the kernel ended the child, or a part of it, because its memory was used up.
    pub fn ran_out_of_memory(&self) -> bool {
        #[cfg(target_os = "linux")]
        return self.group.as_ref().is_some_and(crate::linux::cgroup::Group::ran_out_of_memory);
        #[cfg(not(target_os = "linux"))]
        false
    }

    /// What is enforced of this child.
    pub fn guards(&self) -> &[Guard] {
        &self.guards
    }

    fn watched_only(limits: &Limits) -> Confinement {
        let mut guards: Vec<Guard> =
            ALL.iter().map(|name| Guard::new(*name, GuardState::NotEnforced, "only watched, as was asked")).collect();
        if limits.ram_mib.is_some() {
            guards[4] = Guard::new(GuardName::Memory, GuardState::Partly, "watched several times a second");
        }
        Confinement {
            #[cfg(target_os = "linux")]
            group: None,
            #[cfg(target_os = "linux")]
            _cores: None,
            guards,
        }
    }
}

/// Common to all systems: nothing of the agent's environment, and a process group of its own, so that a Ctrl-C in the terminal is
/// the agent's to handle.
fn detach(command: &mut Command) {
    command.env_clear().env(crate::ENVIRONMENT.0, crate::ENVIRONMENT.1);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(target_os = "linux")]
mod system {
    use std::path::Path;

    use super::*;
    use crate::linux::{
        cgroup::Group,
        child::{NICE, Start, landlock_version},
        cores::Cores,
        files, loader, syscalls,
    };

    impl Confinement {
        /// Sets up a command so that its program starts confined. The program must be an executable file: a script's interpreter
        /// starts, but nothing that it would start in turn.
        ///
        /// The child is killed when the thread that starts it ends: start it on one that stays.
        pub fn prepare(command: &mut Command, limits: &Limits) -> Result<Confinement, SandboxError> {
            detach(command);
            if limits.means == Means::WatchedOnly {
                return Ok(Confinement::watched_only(limits));
            }
            let group = (limits.means == Means::Best).then(|| Group::create(limits)).flatten();
            let has_quota = group.as_ref().is_some_and(|group| group.cpu().is_some());
            let cores = limits.cores.filter(|_| !has_quota).and_then(Cores::take);
            let entrances =
                group.as_ref().map_or(Ok(Vec::new()), Group::entrances).map_err(|e| SandboxError::new("cgroup", e))?;
            let program = Path::new(command.get_program());
            let programs = loader::executed(program).unwrap_or_else(|_| vec![program.to_owned()]);
            let rules = files::of_program(&programs)?;
            let has_landlock = rules.is_some();
            let limited_by = TaskLimit::of(group.as_ref());
            let filters = syscalls::starting(limited_by != TaskLimit::Nothing)?;
            let start = Start::new(entrances, cores.as_ref(), limits, rules, filters);
            // Not the agent's folder, which would be in use, and known.
            command.current_dir("/");
            start.begin(command);
            let guards = guards_of(group.as_ref(), limits, landlock_version().filter(|_| has_landlock));
            Ok(Confinement { group, _cores: cores, guards })
        }
    }

    /// What limits the number of threads.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum TaskLimit {
        Group(u8),
        Resource,
        /// Root has as many as it wants: it gets none.
        Nothing,
    }

    impl TaskLimit {
        fn of(group: Option<&Group>) -> TaskLimit {
            match group.and_then(Group::tasks) {
                Some(version) => TaskLimit::Group(version),
                None if rustix::process::getuid().is_root() => TaskLimit::Nothing,
                None => TaskLimit::Resource,
            }
        }
    }

    fn guards_of(group: Option<&Group>, limits: &Limits, landlock: Option<u32>) -> Vec<Guard> {
        use GuardState::{Enforced, NotEnforced, Partly};
        let files = match landlock {
            Some(version) => (Enforced, format!("landlock ABI {version}: reads the system's libraries, writes nothing")),
            None => {
                (Partly, "seccomp: writes nothing, but reads what the agent may read: this kernel has no landlock".to_owned())
            }
        };
        let network = match landlock {
            Some(4..) => "seccomp: no sockets; landlock: no TCP",
            _ => "seccomp: no sockets",
        };
        let tasks = match TaskLimit::of(group) {
            TaskLimit::Group(version) => format!("seccomp: no programs, no signals; cgroup v{version}: few threads"),
            TaskLimit::Resource => "seccomp: no programs, no signals; resource limit: few threads".to_owned(),
            TaskLimit::Nothing => "seccomp: no programs, no signals, no threads".to_owned(),
        };
        let memory = match (group.and_then(Group::memory), limits.ram_mib) {
            (_, None) => (NotEnforced, "all of the machine's was lent".to_owned()),
            (Some(version), _) => (Enforced, format!("cgroup v{version}, resource limit, watched")),
            (None, _) => (Enforced, "resource limit, watched; no cgroup: this user may create none".to_owned()),
        };
        let cores = match (group.and_then(Group::cpu), limits.cores) {
            (_, None) => (NotEnforced, "all of the machine's were lent".to_owned()),
            (Some(version), _) => (Enforced, format!("cgroup v{version}: quota")),
            (None, _) => (Enforced, "pinned to as many cores as were lent; no cgroup: this user may create none".to_owned()),
        };
        vec![
            Guard::new(GuardName::Network, Enforced, network),
            Guard::new(GuardName::Files, files.0, files.1),
            Guard::new(GuardName::Processes, Enforced, tasks),
            Guard::new(GuardName::Privileges, Enforced, "no capabilities, no new privileges"),
            Guard::new(GuardName::Memory, memory.0, memory.1),
            Guard::new(GuardName::Cores, cores.0, cores.1),
            Guard::new(GuardName::Priority, Enforced, format!("nice {NICE}")),
            Guard::new(GuardName::End, Enforced, "killed by the kernel with the agent"),
        ]
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::*;

    impl Confinement {
        /// Sets up a command as far as this system can: low priority, nothing of the agent's environment.
        pub fn prepare(command: &mut Command, limits: &Limits) -> Result<Confinement, SandboxError> {
            detach(command);
            if limits.means == Means::WatchedOnly {
                return Ok(Confinement::watched_only(limits));
            }
            let has_priority = low_priority(command);
            Ok(Confinement { guards: guards_of(has_priority) })
        }
    }

    /// `BELOW_NORMAL_PRIORITY_CLASS`, `CREATE_NEW_PROCESS_GROUP`, `CREATE_NO_WINDOW`.
    #[cfg(windows)]
    fn low_priority(command: &mut Command) -> bool {
        std::os::windows::process::CommandExt::creation_flags(command, 0x4000 | 0x200 | 0x0800_0000);
        true
    }

    /// The agent lowers its child's once it has started ([`crate::Confinement::started`]).
    #[cfg(not(windows))]
    fn low_priority(_command: &mut Command) -> bool {
        true
    }

    fn guards_of(has_priority: bool) -> Vec<Guard> {
        use GuardState::{NotEnforced, Partly};
        let system = std::env::consts::OS;
        let nothing = |name| Guard::new(name, NotEnforced, format!("no way is known to this program on {system}"));
        let priority = if has_priority { Partly } else { NotEnforced };
        vec![
            nothing(GuardName::Network),
            nothing(GuardName::Files),
            nothing(GuardName::Processes),
            nothing(GuardName::Privileges),
            Guard::new(GuardName::Memory, Partly, "watched several times a second, and ended above what was lent"),
            Guard::new(GuardName::Cores, NotEnforced, "low priority only"),
            Guard::new(GuardName::Priority, priority, "low priority"),
            Guard::new(GuardName::End, Partly, "a trainer ends when its pipe closes"),
        ]
    }
}

impl Confinement {
    /// What is left to do once the child runs: its priority, on systems where only that way is safe.
    pub fn started(&self, _pid: u32) {
        #[cfg(all(unix, not(target_os = "linux")))]
        if let Some(pid) = i32::try_from(_pid).ok().and_then(rustix::process::Pid::from_raw) {
            rustix::process::setpriority_process(Some(pid), 5).ok();
        }
    }
}
