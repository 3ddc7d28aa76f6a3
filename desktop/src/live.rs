//! The watcher: tells the page everything as it is, then what changes, as long as one account is unlocked.
//!
//! ```text
//! stream of blocks ─▶ concerns the account? ─▶ fetch again ─▶ tell what differs from what was told last
//!                  └▶ notices                                 (a lost connection is told, and tried again for ever)
//! ```

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use deepmarket_api::{AccountView, BlockEvent, DayEntry, EstimateView, JobView, MachineView, PricesView};
use deepmarket_types::{AccountId, Event, Height, MachineId, MachineReason, SlotClock, TimeMs};
use futures::StreamExt as _;
use tauri::{AppHandle, ipc::Channel};
use tauri_plugin_notification::NotificationExt as _;
use tokio_util::sync::CancellationToken;

use crate::{
    connection::Chosen,
    convert::{self, Local},
    error::Answer,
    machine_folder::Folder,
    node::Lender,
    notices::{Notices, notice},
    state::{App, hold},
    view::{CommandError, Connection, Live, Node, Notice, Tone},
};

/// The least time between two fetches.
const FETCH: Duration = Duration::from_secs(1);
/// Estimates move with time although nothing happens.
const IDLE_FETCH: Duration = Duration::from_secs(30);
/// Heartbeats are no events: while a machine isn't heard of, it is looked at again and again.
const UNHEARD_FETCH: Duration = Duration::from_secs(2);
/// The least time between two messages about the chain's height alone.
const HEIGHT: Duration = Duration::from_secs(5);
/// How often this computer's node is looked at.
const NODE: Duration = Duration::from_secs(2);
/// The longest pause before a lost connection is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Days of profit and cost.
const DAYS: u32 = 30;

/// Watches until stopped.
pub async fn run(
    handle: AppHandle,
    app: Arc<App>,
    market: Arc<Chosen>,
    account: AccountId,
    channel: Channel<Live>,
    stop: CancellationToken,
) {
    let shared = Shared { handle, app, market, account, channel, machines: Mutex::default(), jobs_here: Mutex::default() };
    let watch = futures::future::join(Watcher::new(&shared).run(), watch_node(&shared));
    tokio::select! {
        _ = watch => {}
        () = stop.cancelled() => {}
    }
}

/// What both watchers use.
struct Shared {
    handle: AppHandle,
    app: Arc<App>,
    market: Arc<Chosen>,
    /// Watching needs no key.
    account: AccountId,
    channel: Channel<Live>,
    /// The account's machines, as they were fetched last.
    machines: Mutex<Vec<MachineView>>,
    /// What this computer works for.
    jobs_here: Mutex<Vec<String>>,
}

impl Shared {
    fn tell(&self, live: Live) {
        // A page that is gone ends the watch when it begins a new one.
        let _ = self.channel.send(live);
    }

    /// Tells what differs from what was told last.
    fn tell_changed<T: PartialEq + Clone>(&self, told: &mut Option<T>, value: T, wrap: fn(T) -> Live) {
        if told.as_ref() != Some(&value) {
            *told = Some(value.clone());
            self.tell(wrap(value));
        }
    }

    fn notify(&self, notice: Notice) {
        if self.app.settings().notify {
            native(&self.handle, &notice);
        }
        self.tell(Live::Notice(notice));
    }
}

/// Shows a notification of the system. Where that has none, the page's notice is enough.
pub fn native(handle: &AppHandle, notice: &Notice) {
    let builder = handle.notification().builder().title(&notice.title).body(&notice.text);
    tauri::async_runtime::spawn_blocking(move || drop(builder.show()));
}

/// Looks at this computer's node.
async fn watch_node(shared: &Shared) {
    let mut told: Option<Node> = None;
    let lender = Lender { account: shared.account, chain: shared.market.chain };
    loop {
        let earned = |id: MachineId| hold(&shared.machines).iter().find(|view| view.id == id).map(|view| view.earned);
        let node = shared.app.node.view(lender, earned, hold(&shared.jobs_here).clone());
        if let (Some(before), Some(error)) = (&told, &node.error)
            && before.error.is_none()
        {
            shared.notify(notice(Tone::Bad, "The compute node ended", error.clone()));
        }
        shared.tell_changed(&mut told, node, Live::Node);
        tokio::time::sleep(NODE).await;
    }
}

/// What was fetched at one time.
struct Fetched {
    account: AccountView,
    machines: Vec<MachineView>,
    jobs: Vec<JobView>,
    estimate: EstimateView,
    days: Vec<DayEntry>,
    clock: SlotClock,
    jobs_here: Vec<String>,
    /// Where it was time for them.
    prices: Option<PricesView>,
    height: Height,
    time: TimeMs,
}

/// Watches the market.
struct Watcher<'a> {
    shared: &'a Shared,
    notices: Notices,
    told: Told,
    /// The last block, and the market's clock at it.
    last: (Height, TimeMs),
    /// Was the account, or one of its machines or jobs, changed since the last fetch?
    dirty: bool,
    /// Is one of the machines on offer and not heard of?
    unheard: bool,
    fetched: Instant,
    failures: u32,
    /// When today's prices are no longer those that were told.
    prices_until: TimeMs,
}

#[derive(Default)]
struct Told {
    connection: Option<Connection>,
    connection_at: Option<Instant>,
    overview: Option<crate::view::Overview>,
    machines: Option<Vec<crate::view::Machine>>,
    jobs: Option<Vec<crate::view::Job>>,
    prices: Option<crate::view::Prices>,
    was_online: bool,
}

impl<'a> Watcher<'a> {
    fn new(shared: &'a Shared) -> Self {
        let notices = Notices::of(shared.account);
        let (told, last, prices_until) = (Told::default(), (Height(0), TimeMs(0)), TimeMs(0));
        Watcher { shared, notices, told, last, dirty: true, unheard: false, fetched: Instant::now(), failures: 0, prices_until }
    }

    async fn run(mut self) {
        self.refresh().await;
        let mut stream = self.shared.market.unchecked().block_stream(None);
        loop {
            tokio::select! {
                event = stream.next() => match event {
                    Some(Ok(block)) => self.hear(&block),
                    Some(Err(error)) if error.retryable() => self.offline(&error.into()),
                    ended => {
                        if let Some(Err(error)) = ended {
                            self.offline(&error.into());
                        }
                        tokio::time::sleep(Duration::from_secs(2)).await;
                        let after = Some(self.last.0).filter(|height| height.0 > 0);
                        stream = self.shared.market.unchecked().block_stream(after);
                    }
                },
                () = tokio::time::sleep_until(self.due().into()) => self.refresh().await,
            }
            if let Some(notice) = self.notices.payouts(Instant::now()) {
                self.shared.notify(notice);
            }
        }
    }

    /// When is it time to fetch again?
    fn due(&self) -> Instant {
        let pause = match (self.failures, self.dirty) {
            (0, true) => FETCH,
            (0, false) if self.unheard => UNHEARD_FETCH,
            (0, false) => IDLE_FETCH,
            (failures, _) => FETCH.saturating_mul(1 << failures.min(8)).min(LONGEST_PAUSE),
        };
        self.fetched + pause
    }

    fn hear(&mut self, block: &BlockEvent) {
        self.last = (block.height, block.time);
        self.dirty |= block.events.iter().any(|event| self.concerns(event)) || block.time >= self.prices_until;
        for event in &block.events {
            if let Some(notice) = self.notices.hear(event) {
                self.shared.notify(notice);
            }
            if matches!(event, Event::Prices(_)) {
                (self.dirty, self.prices_until) = (true, TimeMs(0));
            }
        }
        // After a failed fetch the next one says whether the connection is back.
        if self.failures == 0 {
            self.online();
        }
    }

    fn concerns(&self, event: &Event) -> bool {
        let me = Some(self.shared.account);
        let own_job = event.job().is_some_and(|job| self.notices.jobs.contains_key(&job));
        let own_machine = match event {
            Event::Lease { machine, .. } | Event::Machine { machine, .. } => self.notices.machines.contains_key(machine),
            _ => false,
        };
        let receipt = matches!(event, Event::Receipt { lender, borrower, .. } if Some(*lender) == me || Some(*borrower) == me);
        event.account() == me || own_job || own_machine || receipt
    }

    async fn refresh(&mut self) {
        let fetched = self.fetch().await;
        self.fetched = Instant::now();
        match fetched {
            Ok(fetched) => self.take(fetched),
            Err(error) => {
                self.failures += 1;
                self.offline(&error);
            }
        }
    }

    async fn fetch(&self) -> Answer<Fetched> {
        let id = self.shared.account;
        let status = self.shared.market.status().await?;
        let clock = self.shared.market.clock().await?;
        let client = self.shared.market.unchecked();
        let (account, machines, jobs, estimate, days) = futures::try_join!(
            client.account(id),
            client.machines(Some(id)),
            client.jobs(Some(id)),
            client.estimate(id),
            client.days(id, DAYS)
        )?;
        let gone = || CommandError::new(2002, "the market doesn't know this account", "open it with an identity");
        let here = Folder::of(&self.shared.app.home, id).machine();
        let works = machines.iter().find(|view| Some(view.id) == here && !view.leases.is_empty()).map(|view| view.id);
        let jobs_here = match works {
            Some(machine) => client.assignments(machine).await?.iter().map(|one| one.job.to_string()).collect(),
            None => Vec::new(),
        };
        let prices = match status.time.max(self.last.1) >= self.prices_until {
            true => Some(client.prices().await?),
            false => None,
        };
        let (account, height, time) = (account.ok_or_else(gone)?, status.height, status.time);
        Ok(Fetched { account, machines, jobs, estimate, days, clock, jobs_here, prices, height, time })
    }

    fn take(&mut self, fetched: Fetched) {
        (self.failures, self.dirty) = (0, false);
        if fetched.height > self.last.0 {
            self.last = (fetched.height, fetched.time);
        }
        let Fetched { account, machines, jobs, estimate, days, clock, jobs_here, prices, .. } = fetched;
        self.online();
        let shared = self.shared;
        shared.tell_changed(
            &mut self.told.overview,
            convert::overview(&account, &estimate, &days, &jobs, &machines),
            Live::Overview,
        );
        let folder = Folder::of(&shared.app.home, shared.account);
        let (here, paused) = (folder.machine(), folder.paused());
        let local = |view: &MachineView| {
            let here = Some(view.id) == here;
            Local { here, paused_until: paused.as_ref().filter(|_| here).map(|paused| paused.until) }
        };
        let shown = machines.iter().map(|view| convert::machine(view, local(view), &clock)).collect();
        shared.tell_changed(&mut self.told.machines, shown, Live::Machines);
        let shown = jobs.iter().map(|view| convert::job(view, &clock)).collect();
        shared.tell_changed(&mut self.told.jobs, shown, Live::Jobs);
        self.notices.jobs = jobs.into_iter().map(|view| (view.id, view.name)).collect();
        self.notices.machines = machines.iter().map(|view| (view.id, view.config.name.clone())).collect();
        let unheard = |view: &MachineView| matches!(view.why, MachineReason::NotHeardYet | MachineReason::NoAddress);
        self.unheard = machines.iter().any(unheard);
        *hold(&shared.machines) = machines;
        *hold(&shared.jobs_here) = jobs_here;
        if let Some(prices) = prices {
            self.prices_until = prices.slot_ends;
            shared.tell_changed(&mut self.told.prices, convert::prices(&prices, &clock), Live::Prices);
        }
    }

    fn online(&mut self) {
        let offline = self.told.connection.as_ref().is_some_and(|told| !told.online);
        let recent = self.told.connection_at.is_some_and(|at| at.elapsed() < HEIGHT);
        if recent && !offline {
            return;
        }
        if offline && self.told.was_online {
            self.shared.tell(Live::Notice(notice(Tone::Info, "The connection is back", "")));
        }
        self.told.was_online = true;
        self.connection(true, None);
    }

    fn offline(&mut self, error: &CommandError) {
        // Whatever was missed meanwhile is fetched as soon as a gateway answers.
        (self.dirty, self.failures) = (true, self.failures.max(1));
        self.connection(false, Some(error.message.clone()));
    }

    fn connection(&mut self, online: bool, error: Option<String>) {
        let (height, time) = (self.last.0.0, self.last.1.0);
        let gateway = self.shared.market.unchecked().answering().to_owned();
        let connection = Connection { online, gateway, height, time, error };
        self.told.connection_at = Some(Instant::now());
        self.shared.tell_changed(&mut self.told.connection, connection, Live::Connection);
    }
}
