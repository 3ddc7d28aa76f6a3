use borsh::{BorshDeserialize, BorshSerialize};
use deepmarket_types::{ChainId, Credits, PublicKey, SlotClock, TimeMs, UnitPrices};
use serde::{Deserialize, Serialize};

/// How the prices of a day are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PricePolicy {
    /// The paper's: each unit price of each slot is uniform between floor and ceiling, from the parent block's hash.
    Random,
    /// Each slot's unit prices move with the demand and supply that the same slot of the day saw.
    Dynamic(DynamicPricing),
}

/// The numbers of [`PricePolicy::Dynamic`], in thousandths where they are fractions.
///
/// A slot's *pressure* on a unit is what was used and waited for, of what was on offer. It is weighed with earlier days of the
/// same slot: `mean' = mean + weight · (pressure − mean)`; and the price moves with its distance from the target:
/// `price' = price · (1 + clamp(gain · (mean' − target), ± max_change))`, between floor and ceiling. The change is in whole
/// thousandths, rounded towards zero; the price is rounded down. A price stays where its slot of the day saw neither demand nor
/// supply, and moves once after days on which the chain stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicPricing {
    /// The pressure at which a price stays.
    pub target_permille: u32,
    /// How much a price moves for each unit of distance from the target.
    pub gain_permille: u32,
    /// How much the last day weighs in the mean: 1000 forgets all earlier days.
    pub weight_permille: u32,
    /// The most that a price moves from one day to the next.
    pub max_change_permille: u32,
    /// The prices of the first day's four slots; none for the middle between floor and ceiling.
    #[serde(default)]
    pub first: Option<[UnitPrices; 4]>,
}

impl DynamicPricing {
    fn check(&self, params: &Params) -> Result<(), ParamsError> {
        let error = |field, problem: &str| Err(ParamsError { field, problem: problem.into() });
        if !(1..=2_000).contains(&self.target_permille) {
            return error("price_policy.dynamic.target_permille", "must be 1 to 2000 thousandths");
        }
        if self.gain_permille > 10_000 {
            return error("price_policy.dynamic.gain_permille", "must be at most 10000 thousandths");
        }
        if !(1..=1_000).contains(&self.weight_permille) {
            return error("price_policy.dynamic.weight_permille", "must be 1 to 1000 thousandths");
        }
        if self.max_change_permille > 1_000 {
            return error("price_policy.dynamic.max_change_permille", "must be at most 1000 thousandths");
        }
        let within = |prices: &UnitPrices| {
            let bounded = |price: Credits, floor: Credits, ceiling: Credits| (floor..=ceiling).contains(&price);
            let (low, high) = (&params.price_floor, &params.price_ceiling);
            bounded(prices.core_hour, low.core_hour, high.core_hour)
                && bounded(prices.gpu_hour, low.gpu_hour, high.gpu_hour)
                && bounded(prices.ram_gib_hour, low.ram_gib_hour, high.ram_gib_hour)
                && bounded(prices.disk_gib_hour, low.disk_gib_hour, high.disk_gib_hour)
        };
        match self.first.is_none_or(|first| first.iter().all(within)) {
            true => Ok(()),
            false => error("price_policy.dynamic.first", "every price must be between price_floor and price_ceiling"),
        }
    }
}

/// The rules' numbers, fixed by the genesis document. In TOML amounts are microcredits and times are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// What an opened account is granted.
    pub starting_credits: Credits,
    /// The market's day and its slots.
    pub slots: SlotClock,
    /// How prices are found.
    pub price_policy: PricePolicy,
    /// No unit price is below this.
    pub price_floor: UnitPrices,
    /// No unit price is above this.
    pub price_ceiling: UnitPrices,
    /// The longest block time that one receipt is paid for. Workers send one at least this often.
    pub receipt_ms: u64,
    /// How often a lent machine should send a heartbeat. The ledger doesn't enforce it; gateways tell it to workers.
    pub heartbeat_ms: u64,
    /// A machine whose last heartbeat is longer ago than this, by the contact clock, has lost contact.
    pub contact_timeout_ms: u64,
    /// The most that the contact clock advances with one block. A chain that stood still for minutes makes one block then,
    /// and no machine is lost because nobody could hear it.
    pub contact_step_ms: u64,
    /// Validators make a block after this time without transactions.
    pub idle_block_ms: u64,
    /// May a physical machine be on offer only once? Off where one machine plays several, as on a local market.
    pub unique_hosts: bool,
    /// The most jobs of one account that are not closed.
    pub max_open_jobs_per_account: u32,
    /// The most machines of one account.
    pub max_machines_per_account: u32,
    /// The most jobs that wait to be matched.
    pub max_queued_jobs: u32,
    /// How work is checked. Left out: it isn't.
    #[serde(default)]
    pub audit: AuditParams,
}

/// How work is checked (DESIGN section 7). A *window* is what one receipt adds: its pay is held until it *vests*.
///
/// A lender who fakes everything gains a window's pay R each time, and is caught with the rate q; he loses what is held then, of T
/// windows. That doesn't pay where `T·R ≥ R/q − R`, which [`Params::check`] demands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditParams {
    /// So many of a thousand windows are audited, whoever worked; 0: none ever is, and pay isn't held.
    pub floor_permille: u32,
    /// The first windows of a lender that are always audited.
    pub first_windows: u32,
    /// Pay is held so long after its receipt, and while an audit of the machine is open.
    pub vest_ms: u64,
    /// How long each step of an audit may take: opening a commitment, computing a round, showing an answer, judging.
    pub answer_ms: u64,
    /// How long an audit waits for a free machine before it is given up.
    pub wait_ms: u64,
    /// The time of the lease's resources that one audit is reckoned with.
    pub audit_ms: u64,
    /// What an auditor is paid, in thousandths of the price of `audit_ms`.
    pub pay_permille: u32,
    /// What borrowers pay for audits at the floor, in thousandths of what their leases are paid. A job that wants more audits pays
    /// more.
    pub fee_permille: u32,
    /// So many of a thousand audits that found the worker right are given to a second auditor, before the first shows its answer.
    pub canary_permille: u32,
    /// The most open audits of one lease.
    pub max_open: u32,
    /// After so many false receipts or answers a lender may lend no more.
    pub strikes: u32,
}

/// Numbers that can't make a market.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("params.{field}: {problem}")]
pub struct ParamsError {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it and what would be right.
    pub problem: String,
}

impl Params {
    /// No starting grant is larger than this: 2^63 microcredits would be reached by 9 million such accounts only.
    pub const MAX_STARTING_CREDITS: Credits = Credits::from_credits(1_000_000);
    /// No unit price is higher than this, so that no cost of an interval comes near 64 bits.
    pub const MAX_UNIT_PRICE: Credits = Credits::from_credits(1_000_000);
    /// No period is longer than a week of milliseconds.
    pub const MAX_PERIOD_MS: u64 = 7 * 24 * 3_600_000;
    /// The most that a limit of jobs or machines may allow.
    pub const MAX_COUNT: u32 = 1_000_000;

    /// Refuses numbers that can't make a market. Order: as the fields stand.
    pub fn check(&self) -> Result<(), ParamsError> {
        let error = |field, problem: String| Err(ParamsError { field, problem });
        if self.starting_credits > Self::MAX_STARTING_CREDITS {
            return error("starting_credits", format!("at most {} credits may be granted", Self::MAX_STARTING_CREDITS));
        }
        if self.slots.slot_ms == 0 || self.slots.slot_ms > Self::MAX_PERIOD_MS {
            return error("slots.slot_ms", format!("must be 1 to {} ms", Self::MAX_PERIOD_MS));
        }
        if self.slots.utc_offset_ms.unsigned_abs() > 24 * 3_600_000 {
            return error("slots.utc_offset_ms", "must be within 24 hours".into());
        }
        for (unit, floor, ceiling) in self.price_bounds() {
            if ceiling > Self::MAX_UNIT_PRICE {
                return error("price_ceiling", format!("{unit}: at most {} credits are allowed", Self::MAX_UNIT_PRICE));
            }
            if floor > ceiling {
                return error("price_floor", format!("{unit}: the floor of {floor} is above the ceiling of {ceiling}"));
            }
        }
        if let PricePolicy::Dynamic(pricing) = &self.price_policy {
            pricing.check(self)?;
        }
        let periods = [
            ("receipt_ms", self.receipt_ms),
            ("heartbeat_ms", self.heartbeat_ms),
            ("contact_timeout_ms", self.contact_timeout_ms),
            ("contact_step_ms", self.contact_step_ms),
            ("idle_block_ms", self.idle_block_ms),
        ];
        for (field, ms) in periods {
            if ms == 0 || ms > Self::MAX_PERIOD_MS {
                return error(field, format!("must be 1 to {} ms", Self::MAX_PERIOD_MS));
            }
        }
        if self.receipt_ms > self.slots.slot_ms {
            // A receipt then spans at most two slots, and so at most the prices of two days.
            return error("receipt_ms", "must not be longer than a slot".into());
        }
        if self.contact_timeout_ms <= self.heartbeat_ms {
            return error("contact_timeout_ms", "must be longer than heartbeat_ms, or every machine is lost".into());
        }
        if self.contact_step_ms > self.contact_timeout_ms {
            return error("contact_step_ms", "must not be longer than contact_timeout_ms".into());
        }
        self.check_audit()?;
        let counts = [
            ("max_open_jobs_per_account", self.max_open_jobs_per_account),
            ("max_machines_per_account", self.max_machines_per_account),
            ("max_queued_jobs", self.max_queued_jobs),
        ];
        for (field, count) in counts {
            if count == 0 || count > Self::MAX_COUNT {
                return error(field, format!("must be 1 to {}", Self::MAX_COUNT));
            }
        }
        Ok(())
    }

    fn check_audit(&self) -> Result<(), ParamsError> {
        let audit = &self.audit;
        if audit.floor_permille == 0 {
            return match *audit == AuditParams::default() {
                true => Ok(()),
                false => Err(ParamsError {
                    field: "audit.floor_permille",
                    problem: "without audits leave the whole section out".into(),
                }),
            };
        }
        let numbers = [
            ("audit.floor_permille", u64::from(audit.floor_permille), 1, 1_000),
            ("audit.first_windows", audit.first_windows.into(), 0, 1_000),
            ("audit.vest_ms", audit.vest_ms, 1, Self::MAX_PERIOD_MS),
            ("audit.answer_ms", audit.answer_ms, 1, Self::MAX_PERIOD_MS),
            ("audit.wait_ms", audit.wait_ms, 1, Self::MAX_PERIOD_MS),
            ("audit.audit_ms", audit.audit_ms, 1, self.receipt_ms),
            ("audit.pay_permille", audit.pay_permille.into(), 1_000, 5_000),
            ("audit.fee_permille", audit.fee_permille.into(), 0, 500),
            ("audit.canary_permille", audit.canary_permille.into(), 0, 1_000),
            ("audit.max_open", audit.max_open.into(), 1, 1_000),
            ("audit.strikes", audit.strikes.into(), 1, 1_000),
        ];
        if let Some((field, _, low, high)) = numbers.into_iter().find(|(_, number, low, high)| !(*low..=*high).contains(number)) {
            return Err(ParamsError { field, problem: format!("must be {low} to {high}") });
        }
        // T·R ≥ R/q − R, with T windows of at most receipt_ms: (T + 1)·q ≥ 1.
        let windows = audit.vest_ms / self.receipt_ms;
        match (windows + 1) * u64::from(audit.floor_permille) >= 1_000 {
            true => Ok(()),
            false => {
                let least_ms = (1_000_u64.div_ceil(audit.floor_permille.into()) - 1) * self.receipt_ms;
                let problem = format!("faking work would pay: hold pay for at least {least_ms} ms, or audit more");
                Err(ParamsError { field: "audit.vest_ms", problem })
            }
        }
    }

    /// Name, floor and ceiling of each unit, in the order in which prices are drawn.
    pub(crate) fn price_bounds(&self) -> [(&'static str, Credits, Credits); 4] {
        let (floor, ceiling) = (&self.price_floor, &self.price_ceiling);
        [
            ("core_hour", floor.core_hour, ceiling.core_hour),
            ("gpu_hour", floor.gpu_hour, ceiling.gpu_hour),
            ("ram_gib_hour", floor.ram_gib_hour, ceiling.ram_gib_hour),
            ("disk_gib_hour", floor.disk_gib_hour, ceiling.disk_gib_hour),
        ]
    }
}

/// What the ledger needs of a genesis document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenesisState {
    /// The chain's id: the hash of the document.
    pub chain: ChainId,
    /// The time of height 0.
    pub time: TimeMs,
    /// The rules' numbers.
    pub params: Params,
    /// The keys that decide blocks.
    pub validators: Vec<PublicKey>,
    /// The keys whose vouchers open accounts.
    pub registrars: Vec<PublicKey>,
}
