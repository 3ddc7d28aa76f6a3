use std::fmt;

use serde::Serialize;

/// What is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardName {
    /// A job opens no connection, to anywhere.
    Network,
    /// A job reads and writes none of the machine's files.
    Files,
    /// A job starts no program and no process, and reaches no other one.
    Processes,
    /// A job has none of its user's privileges over the system, and gains none.
    Privileges,
    /// A job holds no more memory than was lent.
    Memory,
    /// A job computes on no more cores than were lent.
    Cores,
    /// The owner's programs go first.
    Priority,
    /// Nothing of a job outlives the agent.
    End,
}

/// Whether it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardState {
    /// The system makes sure of it, whatever the program does.
    Enforced,
    /// In part, or not against a hostile program.
    Partly,
    /// Not at all: only that trainers are well-behaved.
    NotEnforced,
}

/// One guard on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Guard {
    /// What is guarded.
    pub name: GuardName,
    /// Whether it holds.
    pub state: GuardState,
    /// By what, or why not.
    pub how: String,
}

impl Guard {
    pub(crate) fn new(name: GuardName, state: GuardState, how: impl Into<String>) -> Guard {
        Guard { name, state, how: how.into() }
    }
}

impl fmt::Display for GuardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GuardName::Network => "network",
            GuardName::Files => "files",
            GuardName::Processes => "processes",
            GuardName::Privileges => "privileges",
            GuardName::Memory => "memory",
            GuardName::Cores => "cores",
            GuardName::Priority => "priority",
            GuardName::End => "end",
        })
    }
}

impl fmt::Display for GuardState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GuardState::Enforced => "enforced",
            GuardState::Partly => "partly",
            GuardState::NotEnforced => "not enforced",
        })
    }
}
