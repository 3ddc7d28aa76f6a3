//! What became of the cheats, and what it cost.

use deepmarket_types::MachineId;

use super::cheat::Kind;

/// What became of a planted cheat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It isn't known yet.
    Unknown,
    /// An audit found it.
    Caught,
    /// The ledger refused it at once.
    Refused,
    /// It wasn't drawn, and lost its pay with another cheat of the same machine that was.
    Forfeited,
    /// It wasn't drawn, and was paid nothing for another reason: its window had no pay.
    Unpaid,
    /// It wasn't drawn, and was paid.
    Escaped,
    /// Its audit ended without an answer.
    Void,
    /// An audit found it right, and it isn't paid yet.
    Passed,
    /// An audit looked at it and found it right: never, as it should be.
    Missed,
}

/// A cheat.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// What was tried.
    pub kind: Kind,
    /// On which machine.
    pub machine: MachineId,
    /// What became of it.
    pub fate: Fate,
}

/// What a world tells at its end. Amounts are microcredits.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The world's seed.
    pub seed: u64,
    /// All cheats.
    pub planted: Vec<Planted>,
    /// Honest lenders that lost something for something that they didn't do.
    pub honest_punished: u32,
    /// Cheaters who may lend no more.
    pub barred: u32,
    /// Receipt intervals that passed.
    pub windows_passed: u64,
    /// Blocks.
    pub blocks: u64,
    /// Rounds that workers committed to.
    pub rounds: u64,
    /// Rounds that auditors computed again.
    pub recomputed: u64,
    /// Judgements of validators, one step each.
    pub judged: u64,
    /// Audits by how they ended: passed, false, silent, void.
    pub verdicts: [u64; 4],
    /// What receipts claimed.
    pub claimed: u128,
    /// What vested.
    pub paid: u128,
    /// What borrowers paid for audits.
    pub fees: u128,
    /// What auditors were paid.
    pub audit_pay: u128,
    /// What borrowers and auditors were given of what cheaters lost.
    pub forfeited: u128,
}

impl Outcome {
    /// Nothing happened yet.
    pub fn new(seed: u64) -> Outcome {
        Outcome {
            seed,
            planted: Vec::new(),
            honest_punished: 0,
            barred: 0,
            windows_passed: 0,
            blocks: 0,
            rounds: 0,
            recomputed: 0,
            judged: 0,
            verdicts: [0; 4],
            claimed: 0,
            paid: 0,
            fees: 0,
            audit_pay: 0,
            forfeited: 0,
        }
    }

    /// How many cheats of a kind (none: of all) had a fate.
    pub fn count(&self, kind: Option<Kind>, fate: Fate) -> usize {
        self.planted.iter().filter(|p| kind.is_none_or(|kind| p.kind == kind) && p.fate == fate).count()
    }

    /// Adds another world's sums.
    pub fn add(&mut self, other: Outcome) {
        self.planted.extend(other.planted);
        self.honest_punished += other.honest_punished;
        self.barred += other.barred;
        self.windows_passed += other.windows_passed;
        self.blocks += other.blocks;
        self.rounds += other.rounds;
        self.recomputed += other.recomputed;
        self.judged += other.judged;
        self.verdicts.iter_mut().zip(other.verdicts).for_each(|(sum, more)| *sum += more);
        self.claimed += other.claimed;
        self.paid += other.paid;
        self.fees += other.fees;
        self.audit_pay += other.audit_pay;
        self.forfeited += other.forfeited;
    }

    /// What borrowers paid for audits, in thousandths of what they were charged for work.
    pub fn fee_permille(&self) -> f64 {
        self.fees as f64 / self.claimed.max(1) as f64 * 1e3
    }

    /// What auditors were paid, in thousandths of what work was charged.
    pub fn pay_permille(&self) -> f64 {
        self.audit_pay as f64 / self.claimed.max(1) as f64 * 1e3
    }

    /// Rounds that were computed again by auditors or judges, in thousandths of all that workers computed.
    pub fn recomputed_permille(&self) -> f64 {
        (self.recomputed + self.judged) as f64 / self.rounds.max(1) as f64 * 1e3
    }
}
