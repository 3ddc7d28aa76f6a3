//! A scripted day on a real market of four validators, and a table of every balance at its end, computed by hand.
//!
//! The validators are processes; the ledger, the consensus, the REST interface and the typed client are the real ones. The
//! machines are keys of this test that sign the transactions of an agent, because only a script can send receipts at known
//! moments, and that is what makes a table by hand possible:
//!
//! - A receipt is paid for the block time since the lease was last metered, but at most `receipt_ms`, here one second. Every
//!   receipt of this test comes at least 1.2 s after the lease's beginning or last receipt, so **each pays exactly one second**,
//!   however slow the machine is that runs the test.
//! - That second is the last one before the receipt's block. Every receipt comes at least 1.2 s after its slot began, so **that
//!   second has one price**: the slot's.
//! - Prices are `dynamic` with a gain of nothing: those of the first day stay.
//!
//! A moment of the day that was missed is waited for on the next one. Slots last 12 seconds, so a day is 48.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use deepmarket_api::{Client, DayLine, JobView, VoucherRequest};
use deepmarket_genesis::Genesis;
use deepmarket_job::Workers;
use deepmarket_ledger::{DynamicPricing, Params, PricePolicy};
use deepmarket_tests::{Market, my_turn, spec::spec};
use deepmarket_types::{
    AccountId, Action, Availability, ChangeMode, Checkpoint, Credits, DailyHours, Event, Hash, Height, JobId, JobReason,
    JobState, LeaseId, LeaseOutcome, LeaseState, MachineConfig, MachineId, MachineReason, MachineState, Offer, PanicReason,
    Posting, Receipt, Resources, SecretKey, SlotClock, TimeMs, UnitPrices, machine_proof,
};

const SLOT_MS: u64 = 12_000;
const CLOCK: SlotClock = SlotClock { slot_ms: SLOT_MS, utc_offset_ms: 0 };
/// The least time between a slot's or a lease's beginning, or a receipt, and the next receipt.
const APART_MS: u64 = 1_200;
/// Nothing is sent later than this in a slot, so that it is decided within the slot.
const LATEST_MS: u64 = 7_000;
/// The night is the cheap slot.
const NIGHT: usize = 0;
const MORNING: usize = 1;
const AFTERNOON: usize = 2;
const EVENING: usize = 3;
/// A moment of the day comes within a day; the machine may be busy with other things.
const DAY: Duration = Duration::from_secs(150);
const MINUTE: Duration = Duration::from_secs(60);

/// Prices that cost so many microcredits a second.
fn a_second(core: u64, ram_gib: u64, disk_gib: u64) -> UnitPrices {
    let hour = |second: u64| Credits::from_micro(second * 3_600);
    UnitPrices { core_hour: hour(core), gpu_hour: Credits::ZERO, ram_gib_hour: hour(ram_gib), disk_gib_hour: hour(disk_gib) }
}

/// In microcredits a second:
///
/// | slot | core | GiB of memory | GiB of disk |
/// |---|---|---|---|
/// | 0, night | 500 | 50 | 5 |
/// | 1, morning | 1,000 | 100 | 10 |
/// | 2, afternoon | 2,000 | 200 | 10 |
/// | 3, evening | 3,000 | 300 | 10 |
fn prices() -> [UnitPrices; 4] {
    [a_second(500, 50, 5), a_second(1_000, 100, 10), a_second(2_000, 200, 10), a_second(3_000, 300, 10)]
}

fn genesis() -> Genesis {
    let network = Genesis::from_toml(deepmarket_genesis::LOCAL).expect("a network of this release is valid");
    let pricing = DynamicPricing {
        target_permille: 700,
        gain_permille: 0,
        weight_permille: 300,
        max_change_permille: 0,
        first: Some(prices()),
    };
    let params = Params {
        slots: CLOCK,
        price_policy: PricePolicy::Dynamic(pricing),
        price_floor: a_second(0, 0, 0),
        price_ceiling: a_second(10_000, 1_000, 100),
        receipt_ms: 1_000,
        heartbeat_ms: 1_000,
        contact_timeout_ms: 7_000,
        contact_step_ms: 2_000,
        idle_block_ms: 1_000,
        audit: Default::default(),
        unique_hosts: false,
        ..network.params
    };
    Genesis { params, ..network }
}

fn now() -> TimeMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    TimeMs(since.as_millis() as u64)
}

/// Asks until there is an answer.
async fn until<T, F: Future<Output = Option<T>>>(what: &str, deadline: Duration, mut ask: impl FnMut() -> F) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "waited {deadline:?} in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits for a moment of a slot that is early enough in it, and after `after`.
async fn moment(slot: usize, after: TimeMs) {
    until("a moment of the day", DAY, || async {
        let now = now();
        let (_, of_day_ms) = CLOCK.day_at(now);
        let of_slot_ms = of_day_ms % SLOT_MS;
        let good = CLOCK.slot_at(now).1 == slot && (APART_MS..LATEST_MS).contains(&of_slot_ms) && now >= after;
        good.then_some(())
    })
    .await;
}

/// Workers, each with cores and memory, and one GiB of disk.
fn workers(count: u32, cores: u32, ram_mib: u64) -> Workers {
    Workers { min: count, max: count, cores, gpus: 0, ram_mib, disk_mib: 1_024, share_machine: false }
}

/// The market and those who act on it.
struct Stage {
    client: Client,
    chain: Hash,
}

/// An account.
#[derive(Clone)]
struct Person {
    key: SecretKey,
    id: AccountId,
}

/// A machine whose heartbeats a task sends until it dies.
struct Machine {
    key: SecretKey,
    id: MachineId,
    heart: tokio::task::JoinHandle<()>,
}

/// A lease as its machine knows it.
struct Working {
    key: SecretKey,
    job: JobId,
    lease: LeaseId,
    rank: u32,
    sequence: u32,
    /// The block time up to which it was metered.
    metered: TimeMs,
}

impl Stage {
    /// Signs and submits; gives the time of the block that holds the transaction.
    async fn act(&self, key: &SecretKey, action: Action) -> TimeMs {
        let name = action.name();
        let status = self.client.act(key, action).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let height = status.height.expect("it was waited for");
        let block = until("the block of a transaction", MINUTE, || async { self.client.block(Some(height)).await.ok()? });
        block.await.header.time
    }

    async fn open_account(&self, name: &str) -> Person {
        let key = SecretKey::generate();
        let request = VoucherRequest { identity: format!("{name}@pdx.example"), key: key.public() };
        let voucher = self.client.voucher(&request).await.expect("the market has a registrar");
        self.act(&key, Action::OpenAccount { voucher }).await;
        Person { id: AccountId::from_key(&key.public()), key }
    }

    /// Registers a machine of some cores, offers all of it, and keeps its heart beating.
    async fn lend(&self, owner: &Person, name: &str, cores: u32, speed: u64, hours: Option<DailyHours>, core: u64) -> Machine {
        let key = SecretKey::generate();
        let id = MachineId::from_key(&key.public());
        let gib = 1_024 * u64::from(cores);
        let resources = Resources { cores, gpus: 0, ram_mib: gib, disk_mib: gib };
        let text = |text: &str| text.to_owned();
        let config = MachineConfig {
            name: text(name),
            platform: text("scripted"),
            cpu: text("scripted"),
            gpu: String::new(),
            host: Hash::of(name.as_bytes()),
            resources,
            speed,
            trainer: text("scripted"),
        };
        let proof = machine_proof(&key, &self.chain, &owner.key.public(), &config);
        self.act(&owner.key, Action::RegisterMachine { machine_key: key.public(), config, proof }).await;
        let availability = Availability { hours, ..Availability::default() };
        let offer = Offer { resources, availability, minimum: a_second(core, 0, 0), at_close: ChangeMode::AfterLease };
        self.act(&owner.key, Action::Lend { machine: id, offer, mode: ChangeMode::AfterLease }).await;
        let heart = tokio::spawn({
            let (client, key) = (self.client.clone(), key.clone());
            async move {
                loop {
                    let addresses = Some(vec!["/ip4/127.0.0.1/tcp/4001".to_owned()]);
                    // One that fails is followed by the next one: the market may be busy.
                    let _ = client.act(&key, Action::Heartbeat { addresses }).await;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        });
        let machine = Machine { key, id, heart };
        until("the first heartbeat", MINUTE, || async {
            (!matches!(self.why_machine(&machine).await, MachineReason::NotHeardYet | MachineReason::NoAddress)).then_some(())
        })
        .await;
        machine
    }

    async fn why_machine(&self, machine: &Machine) -> MachineReason {
        self.client.machine(machine.id).await.expect("a gateway answers").expect("it was registered").why
    }

    async fn job(&self, id: JobId) -> JobView {
        self.client.job(id).await.expect("a gateway answers").expect("it was submitted")
    }

    /// Submits a job; gives its number.
    async fn borrow(&self, who: &Person, name: &str, workers: Workers, budget: u64, slots: &[usize]) -> JobId {
        let slots = slots.iter().map(|slot| *slot as u8).collect();
        let spec = spec(name, workers, Credits::from_micro(budget), slots);
        self.act(&who.key, Action::Borrow { spec: spec.to_bytes() }).await;
        let jobs = self.client.jobs(Some(who.id)).await.expect("a gateway answers");
        jobs.first().expect("the block that holds it was decided").id
    }

    /// The worker of a rank, once the job runs on the machines that it must run on.
    async fn worker(&self, job: JobId, rank: usize, machine: &Machine) -> Working {
        let lease = until(&format!("{job} to be matched"), DAY, || async { self.job(job).await.leases.get(rank).cloned() }).await;
        assert_eq!(lease.machine, machine.id, "{job} runs on another machine than the story says");
        Working { key: machine.key.clone(), job, lease: lease.id, rank: lease.rank, sequence: 0, metered: lease.started }
    }

    /// Sends the next receipt of a lease in a slot: it pays one second at that slot's price.
    async fn receipt(&self, working: &mut Working, slot: usize, state: Option<Hash>, outcome: LeaseOutcome) {
        moment(slot, working.metered.plus(APART_MS)).await;
        working.sequence += 1;
        let done = u64::from(working.sequence);
        let receipt = Receipt {
            job: working.job,
            lease: working.lease,
            rank: working.rank,
            sequence: working.sequence,
            from: 0,
            rounds: 10 * done,
            samples: 80 * done,
            cpu_ms: 900 * done,
            parameters: Hash::of(b"parameters"),
            commitments: Hash::of(b"commitments"),
            committed: 0,
            loss_micro: 500_000,
            checkpoint: state.map(|state| Checkpoint { state, rounds: 10 * done }),
            missing: None,
            outcome,
        };
        let time = self.act(&working.key, Action::Receipt(receipt)).await;
        let (_, of_day_ms) = CLOCK.day_at(time);
        let decided = CLOCK.slot_at(time).1;
        assert!(
            decided == slot && of_day_ms % SLOT_MS >= 1_000,
            "a receipt that was sent in slot {slot} was decided {of_day_ms} ms into the day: this machine is too slow to tell"
        );
        assert!(time.since(working.metered) >= 1_000, "block time runs behind the clock");
        working.metered = time;
    }

    /// Waits until a job is closed, and gives it.
    async fn closed(&self, job: JobId) -> JobView {
        until(&format!("{job} to close"), MINUTE, || async { Some(self.job(job).await).filter(|job| job.state.is_closed()) })
            .await
    }
}

const RUNNING: LeaseOutcome = LeaseOutcome::Running;
const CREDIT: u64 = 1_000_000;
const FIFTY: u64 = 50 * CREDIT;

#[test]
fn a_scripted_day_of_three_lenders_and_four_borrowers_ends_with_the_balances_computed_by_hand() {
    let _turn = my_turn();
    let market = Market::up_with(0, Some(&genesis().to_toml()));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(story(&market));
}

async fn story(market: &Market) {
    let client = Client::new(market.gateways()).expect("addresses of gateways");
    let chain = client.status().await.expect("a status").chain;
    let stage = Stage { client, chain };

    // Three lenders with different hours and minimum prices (microcredits for a second of a core).
    let (lea, leo, liv) = (stage.open_account("lea").await, stage.open_account("leo").await, stage.open_account("liv").await);
    let (ana, ben, cy, dora) = (
        stage.open_account("ana").await,
        stage.open_account("ben").await,
        stage.open_account("cy").await,
        stage.open_account("dora").await,
    );
    let hours = |from: u16, to: u16| Some(DailyHours { from_minute: from * 60, to_minute: to * 60 });
    // Lea: one core, always, at any price. The fastest machine.
    let leas = stage.lend(&lea, "lea", 1, 3_000, None, 0).await;
    // Leo: two cores, from the evening over midnight until noon, not below 1,000: so not in the night.
    let leos = stage.lend(&leo, "leo", 2, 2_000, hours(18, 12), 1_000).await;
    // Liv: four cores, afternoon and evening, not below 2,000.
    let livs = stage.lend(&liv, "liv", 4, 1_000, hours(12, 24), 2_000).await;

    // The afternoon. Ana's job needs three cores, which only Liv has; it will run into the evening and the night.
    moment(AFTERNOON, TimeMs(0)).await;
    let long = stage.borrow(&ana, "long", workers(1, 3, 1_500), CREDIT, &[]).await;
    // Cy changes his mind before his job starts: all comes back.
    let hasty = stage.borrow(&cy, "hasty", workers(1, 1, 1_024), 5 * CREDIT, &[MORNING]).await;
    assert_eq!(balance(&stage, &cy).await, (45 * CREDIT, 0));
    stage.act(&cy.key, Action::Cancel { job: hasty }).await;
    assert_eq!(balance(&stage, &cy).await, (FIFTY, 0));
    assert_eq!(stage.job(hasty).await.state, JobState::Cancelled);
    let mut long_work = stage.worker(long, 0, &livs).await;
    stage.receipt(&mut long_work, AFTERNOON, None, RUNNING).await;
    stage.receipt(&mut long_work, AFTERNOON, None, RUNNING).await;

    // The evening. Cy's next job needs two cores: Leo's, because one of Liv's four is left. Dora's needs one: Lea's is fastest.
    moment(EVENING, TimeMs(0)).await;
    let stopped = stage.borrow(&cy, "stopped", workers(1, 2, 2_048), CREDIT, &[]).await;
    let poor = stage.borrow(&dora, "poor", workers(1, 1, 1_024), 8_000, &[]).await;
    let mut stopped_work = stage.worker(stopped, 0, &leos).await;
    let mut poor_work = stage.worker(poor, 0, &leas).await;
    stage.receipt(&mut long_work, EVENING, None, RUNNING).await;
    stage.receipt(&mut stopped_work, EVENING, None, RUNNING).await;
    stage.receipt(&mut poor_work, EVENING, None, RUNNING).await;
    // Cy stops it while it runs: the rest comes back.
    stage.act(&cy.key, Action::Cancel { job: stopped }).await;
    stage.receipt(&mut long_work, EVENING, None, RUNNING).await;
    // Dora's second receipt leaves less in escrow than the next second costs. The state that was stored on the way is kept.
    let model = Hash::of(b"the model after twenty rounds");
    stage.receipt(&mut poor_work, EVENING, Some(model), RUNNING).await;
    let poor = stage.closed(poor).await;
    assert_eq!(poor.state, JobState::Panic(PanicReason::Budget));
    let kept = poor.checkpoint.expect("the checkpoint is kept");
    assert_eq!((kept.state, kept.rounds, poor.escrow), (model, 20, Credits::ZERO));

    // Ben's job waits for the night, although machines are free.
    moment(EVENING, TimeMs(0)).await;
    let thrifty = stage.borrow(&ben, "thrifty", workers(1, 1, 1_024), CREDIT, &[NIGHT]).await;
    let waiting = stage.job(thrifty).await;
    let JobReason::WaitsForSlot { starts } = waiting.why else { panic!("{:?}", waiting.why) };
    assert_eq!((waiting.state, CLOCK.day_at(starts).1), (JobState::Queued, 0), "it waits for midnight, and shows when that is");

    // The night. Ben's job starts by itself. Leo's minimum is above the price; Liv's hours are over, but her lease goes on.
    let mut thrifty_work = stage.worker(thrifty, 0, &leas).await;
    assert_eq!(CLOCK.slot_at(thrifty_work.metered).1, NIGHT, "it began in the cheap slot");
    moment(NIGHT, TimeMs(0)).await;
    assert_eq!(stage.why_machine(&leos).await, MachineReason::PriceBelowMinimum);
    assert_eq!(stage.why_machine(&livs).await, MachineReason::Serving);
    stage.receipt(&mut long_work, NIGHT, None, LeaseOutcome::Finished(model)).await;
    assert!(matches!(stage.why_machine(&livs).await, MachineReason::OutsideHours { opens: Some(_) }));
    for outcome in [RUNNING, RUNNING, LeaseOutcome::Finished(model)] {
        stage.receipt(&mut thrifty_work, NIGHT, None, outcome).await;
    }
    for job in [long, thrifty] {
        assert_eq!(stage.closed(job).await.state, JobState::Finished(model));
    }

    // The morning. Dora's second job has two workers: Lea's machine and Leo's, whose minimum is the price. Then his dies, and the
    // job goes on with the other one.
    moment(MORNING, TimeMs(0)).await;
    let unlucky = stage.borrow(&dora, "unlucky", workers(2, 1, 1_024), CREDIT, &[]).await;
    let mut first_work = stage.worker(unlucky, 0, &leas).await;
    let mut second_work = stage.worker(unlucky, 1, &leos).await;
    stage.receipt(&mut first_work, MORNING, None, RUNNING).await;
    stage.receipt(&mut second_work, MORNING, None, RUNNING).await;
    leos.heart.abort();
    let died = Instant::now();
    let dead = until("the dead machine to be in panic", MINUTE, || async {
        let view = stage.client.machine(leos.id).await.ok()??;
        (view.state == MachineState::Panic).then_some(view)
    });
    let dead = dead.await;
    assert!(died.elapsed() < Duration::from_secs(10), "it took {:?}", died.elapsed());
    // Its owner sees why, and so does the borrower.
    assert_eq!((dead.why, dead.leases_lost, dead.reliability < 500), (MachineReason::LostContact, 1, true));
    let lucky = stage.job(unlucky).await;
    assert_eq!((lucky.state, lucky.members, lucky.failures), (JobState::Running, vec![first_work.lease], 0));
    assert_eq!((lucky.leases[1].id, lucky.leases[1].state), (second_work.lease, LeaseState::Lost));
    // The afternoon. Only Liv's machine is free for a replacement, and only now is it on offer again. As soon as it is ready it
    // trains with Lea's, and both do all rounds.
    let mut third_work = stage.worker(unlucky, 2, &livs).await;
    stage.receipt(&mut third_work, AFTERNOON, None, RUNNING).await;
    assert_eq!(stage.job(unlucky).await.members, [first_work.lease, third_work.lease]);
    for work in [&mut first_work, &mut third_work] {
        stage.receipt(work, AFTERNOON, None, LeaseOutcome::Finished(model)).await;
    }
    assert_eq!(stage.closed(unlucky).await.state, JobState::Finished(model));

    // One second of each job, by unit (rounded down each), with the prices of the table above:
    //
    // long      3 cores, 1,500 MiB, 1 GiB of disk, on Liv's machine
    //   afternoon   3·2,000 + 1,500/1,024·200 (292.97) + 10            = 6,000 + 292 + 10 =  6,302   two receipts: 12,604
    //   evening     3·3,000 + 1,500/1,024·300 (439.45) + 10            = 9,000 + 439 + 10 =  9,449   two receipts: 18,898
    //   night       3·2,000 (Liv's minimum, not 500) + 73.24 + 5       = 6,000 +  73 +  5 =  6,078   one receipt:   6,078
    //                                                                                             together         37,580
    // thrifty   1 core, 1 GiB, 1 GiB, on Lea's: night, 500 + 50 + 5    =                     555   three:           1,665
    // hasty     cancelled before it started                                                                            0
    // stopped   2 cores, 2 GiB, 1 GiB, on Leo's: evening, 6,000 + 600 + 10               = 6,610   one:             6,610
    // poor      1 core, 1 GiB, 1 GiB, on Lea's: evening, 3,000 + 300 + 10                = 3,310   two:             6,620
    //           of a budget of 8,000: 1,380 is less than 3,310 and comes back
    // unlucky   1 core, 1 GiB, 1 GiB
    //   morning     on Lea's and Leo's, 1,000 + 100 + 10             =                  1,110   one each:        2,220
    //   afternoon   on Lea's and Liv's, 2,000 + 200 + 10             =                  2,210   one and two:     6,630
    //               nothing for Leo's machine from its last receipt on               together          8,850
    let table = [
        // who, granted, earned
        (&lea, FIFTY, 1_665 + 6_620 + 1_110 + 2_210),
        (&leo, FIFTY, 6_610 + 1_110),
        (&liv, FIFTY, 37_580 + 2 * 2_210),
        (&ana, FIFTY - 37_580, 0),
        (&ben, FIFTY - 1_665, 0),
        (&cy, FIFTY - 6_610, 0),
        (&dora, FIFTY - 6_620 - 8_850, 0),
    ];
    for (number, (person, granted, earned)) in table.into_iter().enumerate() {
        assert_eq!(balance(&stage, person).await, (granted, earned), "account {number} of the table");
        add_up(&stage, person, granted, earned).await;
    }
    let ledger = stage.client.ledger().await.expect("a gateway answers");
    assert_eq!((ledger.minted.micro(), ledger.escrow.micro(), ledger.conserved), (7 * FIFTY, 0, true));
    agree(market, &stage).await;
}

/// The two purses of an account, in microcredits.
async fn balance(stage: &Stage, who: &Person) -> (u64, u64) {
    let view = stage.client.account(who.id).await.expect("a gateway answers").expect("it was opened");
    (view.granted.micro(), view.earned.micro())
}

/// The statement, the days and the history of an account each tell its balance, and every payout has its transaction.
async fn add_up(stage: &Stage, who: &Person, granted: u64, earned: u64) {
    let statement = stage.client.statement(who.id).await.expect("a gateway answers");
    assert!(statement.balanced);
    let sum = |part: fn(&deepmarket_api::StatementLine) -> Credits| statement.lines.iter().map(part).sum::<Credits>().micro();
    assert_eq!(sum(|line| line.incoming) - sum(|line| line.outgoing), granted + earned);

    let days = stage.client.days(who.id, 30).await.expect("a gateway answers");
    let (mut profit, mut cost) = (0, 0);
    for entry in days {
        match entry.line {
            DayLine::Profit(_) => profit += entry.credits.micro(),
            DayLine::Cost(_) => cost += entry.credits.micro(),
        }
    }
    assert_eq!((profit, cost), (earned, FIFTY - granted));

    let history = stage.client.account_history(who.id, None, 500).await.expect("a gateway answers");
    let mut told = 0_i128;
    for entry in &history {
        let Event::Posted { amount, incoming, cause, .. } = &entry.event else { continue };
        told += i128::from(amount.micro()) * if *incoming { 1 } else { -1 };
        if let Posting::Payout { .. } = cause {
            let id = entry.transaction.expect("a payout is of a receipt");
            let status = stage.client.transaction(id).await.expect("a gateway answers").expect("it was decided");
            let body = status.transaction.expect("it was asked for by id").body;
            assert!(matches!(body.action, Action::Receipt(_)), "{:?}", body.action);
        }
    }
    assert_eq!(told, i128::from(granted + earned));
}

/// All four validators hold the same state.
async fn agree(market: &Market, stage: &Stage) {
    let Height(height) = stage.client.status().await.expect("a status").height;
    // The next block's header holds the root of the state after this one.
    let mut roots = Vec::new();
    for gateway in market.gateways() {
        let own = Client::new(vec![gateway]).expect("an address");
        let block = until("a later block", MINUTE, || async { own.block(Some(Height(height + 1))).await.ok()? }).await;
        roots.push((block.hash, block.header.state_root));
    }
    assert_eq!(roots.len(), 4);
    assert!(roots.iter().all(|root| *root == roots[0]), "{roots:?}");
}
