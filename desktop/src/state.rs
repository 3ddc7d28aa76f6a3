//! What PLUTO knows while it runs. Keys live here only, and only while the wallet is unlocked.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use deepmarket_api::Client;
use deepmarket_types::{AccountId, ChainId, JobId, MachineId, SecretKey};
use tauri::ipc::Channel;
use tokio_util::sync::CancellationToken;

use crate::{
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
    /// The jobs whose pages are open.
    pub watched_jobs: Mutex<HashMap<JobId, CancellationToken>>,
    /// Names of machines that were looked up.
    pub machine_names: Mutex<BTreeMap<MachineId, String>>,
    settings: Mutex<Settings>,
    market: Mutex<Option<Arc<Chosen>>>,
    session: Mutex<Option<Arc<Unlocked>>>,
    /// A new key whose words are being written down.
    fresh: Mutex<Option<SecretKey>>,
    /// When somebody was there last.
    seen: Mutex<Instant>,
    watch: Mutex<Option<Watch>>,
}

/// The unlocked account. Its key is wiped from memory with the last one who holds this.
pub struct Unlocked {
    pub name: String,
    pub id: AccountId,
    pub key: SecretKey,
    open: AtomicBool,
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
            watched_jobs: Mutex::default(),
            machine_names: Mutex::default(),
            settings: Mutex::new(settings),
            market: Mutex::new(market.map(Arc::new)),
            session: Mutex::default(),
            fresh: Mutex::default(),
            seen: Mutex::new(Instant::now()),
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

    /// Looks for gateways of the market that did not answer before, and remembers how it stands.
    pub async fn look_around(&self, market: &Chosen) -> Answer {
        let status = market.status().await?;
        let mut gateways = market.gateways().to_vec();
        gateways.extend(connection::others(market.unchecked(), &market.chain).await);
        let found = Chosen::new(market.gateway.clone(), market.chain, gateways)?;
        // Another one may have been chosen meanwhile.
        if !self.market().is_ok_and(|now| now.chain == market.chain && now.gateway == market.gateway) {
            return Ok(());
        }
        let path = self.home.markets();
        let mut markets = Markets::read(&path);
        markets.choose(&market.gateway, &status, found.gateways().to_vec());
        markets.write(&path)?;
        if found.gateways() != market.gateways() {
            self.choose(found);
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
        hold(&self.session)
            .clone()
            .ok_or_else(|| CommandError::new(LOCKED, "the wallet is locked", "unlock it with your password"))
    }

    pub fn enter(&self, session: Unlocked) -> Arc<Unlocked> {
        let session = Arc::new(session);
        self.end_watch();
        *hold(&self.session) = Some(session.clone());
        self.still_here();
        session
    }

    pub fn set_fresh(&self, key: Option<SecretKey>) {
        *hold(&self.fresh) = key;
    }

    pub fn fresh(&self) -> Option<SecretKey> {
        hold(&self.fresh).clone()
    }

    pub fn still_here(&self) {
        *hold(&self.seen) = Instant::now();
    }

    /// Forgets the key, and tells the page.
    pub fn lock(&self) {
        *hold(&self.session) = None;
        *hold(&self.fresh) = None;
        for (_, stop) in hold(&self.watched_jobs).drain() {
            stop.cancel();
        }
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

    /// A new ear in place of the one before.
    pub fn begin_watch(&self, channel: Channel<Live>) -> CancellationToken {
        self.end_watch();
        let stop = CancellationToken::new();
        *hold(&self.watch) = Some(Watch { channel, stop: stop.clone() });
        stop
    }

    pub fn end_watch(&self) {
        if let Some(watch) = hold(&self.watch).take() {
            watch.stop.cancel();
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
        let path = self.home.markets();
        let mut markets = Markets::read(&path);
        markets.opened(chain, session.id);
        markets.write(&path)
    }
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
