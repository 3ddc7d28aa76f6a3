//! What PLUTO knows while it runs. Keys live here only, and only while the wallet is unlocked.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use deepmarket_api::Client;
use deepmarket_types::{AccountId, ChainId, MachineId, SecretKey};
use tauri::ipc::Channel;
use tokio_util::sync::CancellationToken;

use crate::{
    child::Runs,
    connection::{self, Chosen},
    error::{Answer, LOCKED, NO_MARKET},
    home::Home,
    markets::Markets,
    node::Keeper,
    settings,
    view::{CommandError, Live, Session, Settings},
};

/// What commands share.
pub type Pluto<'a> = tauri::State<'a, Arc<App>>;

pub struct App {
    pub home: Home,
    /// A gateway that was named when PLUTO was started.
    pub preselected: Option<String>,
    pub node: Keeper,
    /// Commands of the program `deepmarket` that run.
    pub runs: Runs,
    /// The jobs' pages that are open, by their channels.
    watched_jobs: Mutex<HashMap<u32, CancellationToken>>,
    /// Names of machines that were looked up.
    pub machine_names: Mutex<BTreeMap<MachineId, String>>,
    settings: Mutex<Settings>,
    market: Mutex<Option<Arc<Chosen>>>,
    session: Mutex<Option<Arc<Unlocked>>>,
    /// A new key whose words are being written down.
    fresh: Mutex<Option<SecretKey>>,
    /// When somebody was there last.
    seen: Mutex<Seen>,
    /// One change of what is remembered of markets at a time.
    remembering: Mutex<()>,
    watch: Mutex<Option<Watch>>,
}

/// The unlocked account. Its key is wiped from memory with the last one who holds this.
pub struct Unlocked {
    pub name: String,
    pub id: AccountId,
    pub key: SecretKey,
    open: AtomicBool,
}

/// A moment by two clocks: one stands still while the computer sleeps, the other one can be set.
struct Seen(Instant, SystemTime);

impl Seen {
    fn now() -> Seen {
        Seen(Instant::now(), SystemTime::now())
    }

    /// By the clock that says more.
    fn elapsed(&self) -> Duration {
        self.0.elapsed().max(self.1.elapsed().unwrap_or_default())
    }
}

/// The page's ear.
struct Watch {
    channel: Channel<Live>,
    stop: CancellationToken,
}

/// What is behind a lock: nothing here stays half changed when a thread panics.
pub fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl App {
    pub fn new(home: Home, preselected: Option<String>) -> App {
        let settings = settings::read(&home.settings());
        let preselected = preselected.and_then(|gateway| Some(Client::new(vec![gateway]).ok()?.gateways()[0].clone()));
        let last = Markets::read(&home.markets()).last(preselected.as_deref());
        let market = last.and_then(|(gateway, chain, known)| Chosen::new(gateway, chain, known.gateways).ok());
        App {
            home,
            preselected,
            node: Keeper::default(),
            runs: Runs::default(),
            watched_jobs: Mutex::default(),
            machine_names: Mutex::default(),
            settings: Mutex::new(settings),
            market: Mutex::new(market.map(Arc::new)),
            session: Mutex::default(),
            fresh: Mutex::default(),
            seen: Mutex::new(Seen::now()),
            remembering: Mutex::default(),
            watch: Mutex::default(),
        }
    }

    pub fn settings(&self) -> Settings {
        hold(&self.settings).clone()
    }

    pub fn set_settings(&self, settings: Settings) -> Answer {
        settings::write(&self.home.settings(), &settings)?;
        *hold(&self.settings) = settings;
        Ok(())
    }

    /// The chosen market; not yet asked whether it is still that one.
    pub fn market(&self) -> Answer<Arc<Chosen>> {
        let none =
            || CommandError::new(NO_MARKET, "no market is chosen", "choose one: PLUTO needs the address of one of its gateways");
        hold(&self.market).clone().ok_or_else(none)
    }

    pub fn choose(&self, market: Chosen) {
        *hold(&self.market) = Some(Arc::new(market));
    }

    /// Changes what is remembered of markets.
    pub fn remember(&self, change: impl FnOnce(&mut Markets)) -> Answer<Markets> {
        let _turn = hold(&self.remembering);
        let path = self.home.markets();
        let mut markets = Markets::read(&path);
        change(&mut markets);
        markets.write(&path)?;
        Ok(markets)
    }

    /// Looks for gateways of the market that did not answer before, and remembers how it stands.
    pub async fn look_around(&self, market: &Chosen) -> Answer {
        let status = market.status().await?;
        let gateways = connection::gateways(market.unchecked(), &market.chain).await;
        let found = Chosen::new(market.gateway.clone(), market.chain, gateways)?;
        self.remember(|markets| markets.seen(&status, found.gateways().to_vec()))?;
        let mut chosen = hold(&self.market);
        // Another one may have been chosen meanwhile.
        if chosen.as_ref().is_some_and(|now| now.chain == market.chain && now.gateway == market.gateway)
            && found.gateways() != market.gateways()
        {
            *chosen = Some(Arc::new(found));
        }
        Ok(())
    }

    /// The chosen market, after its gateway said that it is that one.
    pub async fn checked(&self) -> Answer<(Arc<Chosen>, Client)> {
        let market = self.market()?;
        let client = market.checked().await?;
        Ok((market, client))
    }

    pub fn session(&self) -> Answer<Arc<Unlocked>> {
        hold(&self.session).clone().ok_or_else(locked)
    }

    pub fn enter(&self, session: Unlocked) -> Arc<Unlocked> {
        let session = Arc::new(session);
        // First this: the automatic lock looks at both.
        self.still_here();
        *hold(&self.session) = Some(session.clone());
        self.end_watch();
        self.unwatch_jobs();
        session
    }

    pub fn set_fresh(&self, key: Option<SecretKey>) {
        *hold(&self.fresh) = key;
    }

    pub fn fresh(&self) -> Option<SecretKey> {
        hold(&self.fresh).clone()
    }

    pub fn still_here(&self) {
        *hold(&self.seen) = Seen::now();
    }

    /// Forgets the key, and tells the page.
    pub fn lock(&self) {
        *hold(&self.session) = None;
        *hold(&self.fresh) = None;
        self.unwatch_jobs();
        if let Some(watch) = hold(&self.watch).take() {
            watch.stop.cancel();
            // Where the page is gone there is nobody to tell.
            let _ = watch.channel.send(Live::Locked);
        }
    }

    /// Locks after the set time without a sign of anybody.
    pub fn lock_if_alone(&self) {
        let minutes = hold(&self.settings).lock_minutes;
        let alone = hold(&self.seen).elapsed() >= Duration::from_secs(u64::from(minutes) * 60);
        if minutes > 0 && alone && hold(&self.session).is_some() {
            self.lock();
        }
    }

    /// A new ear in place of the one before, for the account that is unlocked.
    pub fn begin_watch(&self, channel: Channel<Live>) -> Answer<(AccountId, CancellationToken)> {
        // Held, so that a lock comes before or after the whole of this, and ends what begins here.
        let session = hold(&self.session);
        let id = session.as_ref().ok_or_else(locked)?.id;
        self.end_watch();
        let stop = CancellationToken::new();
        *hold(&self.watch) = Some(Watch { channel, stop: stop.clone() });
        Ok((id, stop))
    }

    pub fn end_watch(&self) {
        if let Some(watch) = hold(&self.watch).take() {
            watch.stop.cancel();
        }
    }

    /// A job's page begins to listen on a channel.
    pub fn watch_job(&self, channel: u32) -> Answer<CancellationToken> {
        let session = hold(&self.session);
        if session.is_none() {
            return Err(locked());
        }
        let stop = CancellationToken::new();
        hold(&self.watched_jobs).insert(channel, stop.clone());
        Ok(stop)
    }

    pub fn unwatch_job(&self, channel: u32) {
        if let Some(stop) = hold(&self.watched_jobs).remove(&channel) {
            stop.cancel();
        }
    }

    /// No job's page is open any more.
    pub fn unwatch_jobs(&self) {
        for (_, stop) in hold(&self.watched_jobs).drain() {
            stop.cancel();
        }
    }

    /// Tells the page, where it listens.
    pub fn tell(&self, live: Live) {
        if let Some(watch) = &*hold(&self.watch) {
            let _ = watch.channel.send(live);
        }
    }

    /// Remembers that the unlocked account is open on this market.
    pub fn opened(&self, session: &Unlocked, chain: &ChainId) -> Answer {
        session.open.store(true, Ordering::Relaxed);
        self.remember(|markets| markets.opened(chain, session.id)).map(|_| ())
    }
}

fn locked() -> CommandError {
    CommandError::new(LOCKED, "the wallet is locked", "unlock it with your password")
}

impl Unlocked {
    pub fn new(name: String, key: SecretKey, open: bool) -> Unlocked {
        Unlocked { name, id: AccountId::from_key(&key.public()), key, open: AtomicBool::new(open) }
    }

    pub fn view(&self) -> Session {
        Session {
            name: self.name.clone(),
            id: self.id.to_string(),
            key: self.key.public().to_string(),
            open: self.open.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_computer_that_slept_was_alone() {
        let hour = Duration::from_secs(3600);
        let seen = Seen(Instant::now(), SystemTime::now() - hour);
        assert!(seen.elapsed() >= hour, "the other clock stood still");
        let set_back = Seen(Instant::now(), SystemTime::now() + hour);
        assert!(set_back.elapsed() < hour);
    }

    #[test]
    fn nothing_is_watched_while_the_wallet_is_locked() {
        let folder = tempfile::tempdir().unwrap();
        let app = App::new(Home::open(folder.path().to_owned()).unwrap(), None);
        assert_eq!(app.watch_job(1).unwrap_err().code, LOCKED);
        app.enter(Unlocked::new("alice".into(), SecretKey::from_seed([1; 32]), true));
        let (first, second) = (app.watch_job(1).unwrap(), app.watch_job(2).unwrap());
        app.unwatch_job(1);
        assert!(first.is_cancelled() && !second.is_cancelled());
        app.lock();
        assert!(second.is_cancelled() && app.session().is_err());
    }
}
