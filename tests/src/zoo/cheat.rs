//! The zoo's animals.

use std::fmt;

/// A way to be paid for what wasn't done, or to harm those who did it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Reports rounds that it never computed.
    ComputesNothing,
    /// Takes half the steps of a round.
    FewerSteps,
    /// Uses half of a round's samples.
    SmallerBatch,
    /// Computes a round from the parameters of the round before.
    OldParameters,
    /// Hands in another member's result.
    CopiesAnother,
    /// Hands in its update with all signs turned.
    FlipsSigns,
    /// Claims twice the samples that it used.
    ClaimsMoreSamples,
    /// Computes nothing, and doesn't answer when it is audited.
    SilentAtAudit,
    /// As an auditor says of honest work that it is false.
    LyingAuditor,
    /// As an auditor says yes without computing.
    YesMan,
    /// Sends each receipt twice.
    DoubleReceipts,
    /// Sends two receipts of one number that contradict each other, for rounds that it never computed.
    ContradictoryReceipts,
}

impl Kind {
    /// All kinds, as the issue lists them.
    pub const ALL: [Kind; 12] = [
        Kind::ComputesNothing,
        Kind::FewerSteps,
        Kind::SmallerBatch,
        Kind::OldParameters,
        Kind::CopiesAnother,
        Kind::FlipsSigns,
        Kind::ClaimsMoreSamples,
        Kind::SilentAtAudit,
        Kind::LyingAuditor,
        Kind::YesMan,
        Kind::DoubleReceipts,
        Kind::ContradictoryReceipts,
    ];

    /// Does it cheat when it audits, rather than when it works?
    pub fn is_auditor(self) -> bool {
        matches!(self, Kind::LyingAuditor | Kind::YesMan)
    }

    /// Is what it claims false? A receipt that is sent twice is true, and has to be paid once.
    pub fn is_false_work(self) -> bool {
        !self.is_auditor() && self != Kind::DoubleReceipts
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Kind::ComputesNothing => "reports without computing",
            Kind::FewerSteps => "computes fewer steps",
            Kind::SmallerBatch => "smaller batches",
            Kind::OldParameters => "old parameters",
            Kind::CopiesAnother => "copies another's result",
            Kind::FlipsSigns => "flips signs",
            Kind::ClaimsMoreSamples => "claims more samples",
            Kind::SilentAtAudit => "goes silent at the audit",
            Kind::LyingAuditor => "lies as auditor",
            Kind::YesMan => "says yes to everything",
            Kind::DoubleReceipts => "double receipts",
            Kind::ContradictoryReceipts => "contradictory receipts",
        })
    }
}

/// When a cheater cheats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Habit {
    /// It works honestly for so many windows first: newcomers are always audited.
    pub honest_windows: u32,
    /// Then it cheats in so many of a hundred windows.
    pub percent: u32,
}

impl Habit {
    /// From its first window on, always.
    pub const BOLD: Habit = Habit { honest_windows: 0, percent: 100 };
    /// Earns trust, and then cheats always.
    pub const SLEEPER: Habit = Habit { honest_windows: 25, percent: 100 };
    /// Cheats now and then, so that most audits find it honest.
    pub const OCCASIONAL: Habit = Habit { honest_windows: 10, percent: 20 };
}
