//! The compute node of this computer and those that are lent over SSH: child processes that run as long as PLUTO does, also
//! while the wallet is locked.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use deepmarket_api::{Client, MachineView};
use deepmarket_types::{AccountId, Action, ChainId, ChangeMode, Credits, MachineId, Offer, TimeMs, machine_proof};
use deepmarket_wallet::offers::{self, INVITE_UNKNOWN};
use tokio::time::timeout;

use crate::{
    child::Child,
    connection::Chosen,
    convert,
    error::{Answer, BAD_INPUT, CHILD, NOT_KNOWN, bug},
    home::Home,
    machine_folder::{Folder, Paused},
    state::{Unlocked, hold},
    usage::Usage,
    view::{self, CommandError},
};

/// How long a node may take to measure the machine and to join.
const JOIN: Duration = Duration::from_secs(180);
/// How long PLUTO's end waits for the market to take offers back.
const FAREWELL: Duration = Duration::from_secs(10);

/// All children that lend.
#[derive(Default)]
pub struct Keeper {
    local: Mutex<Option<Running>>,
    remote: Mutex<BTreeMap<String, Remote>>,
    /// One change at a time of this computer's node.
    turn: tokio::sync::Mutex<()>,
    /// And one of the others: joining over SSH may take long.
    remote_turn: tokio::sync::Mutex<()>,
}

/// Who lends, on which market.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lender {
    pub account: AccountId,
    pub chain: ChainId,
}

/// This computer's node; also after it ended by itself.
struct Running {
    lender: Lender,
    machine: MachineId,
    since: u64,
    /// What the machine had earned before.
    earned_before: Credits,
    child: Child,
    usage: Usage,
    ended: Option<CommandError>,
}

/// A machine that is lent over SSH.
struct Remote {
    lender: Lender,
    machine: MachineId,
    child: Child,
    running: bool,
}

/// Whose node is meant, and on which market.
#[derive(Clone, Copy)]
pub struct Of<'a> {
    pub home: &'a Home,
    pub market: &'a Chosen,
    pub session: &'a Unlocked,
}

impl Of<'_> {
    pub fn folder(&self) -> Folder {
        Folder::of(self.home, self.session.id)
    }

    fn lender(&self) -> Lender {
        Lender { account: self.session.id, chain: self.market.chain }
    }

    fn arguments(&self, verb: &[&str]) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["--home".into(), self.folder().home().into()];
        arguments.extend(["--gateway".into(), self.market.gateways().join(",").into()]);
        arguments.extend(verb.iter().map(OsString::from));
        arguments
    }

    async fn client(&self) -> Answer<Client> {
        self.market.checked().await
    }
}

/// Milliseconds since 1970, by this computer's clock.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

impl Keeper {
    /// Lends this computer, and starts its node. Gives its id.
    pub async fn lend(&self, of: Of<'_>, offer: Offer) -> Answer<MachineId> {
        let _turn = self.turn.lock().await;
        let (client, folder) = (of.client().await?, of.folder());
        self.check_lender(of.lender())?;
        if let Some(machine) = own_machine(&client, &folder, of.session.id).await?
            && folder.code().is_some()
        {
            renew(&client, of, &folder, machine).await?;
            client.act(&of.session.key, Action::Lend { machine, offer, mode: ChangeMode::AfterLease }).await?;
            match self.serve(of, &client, &folder).await {
                // Its code is no longer good: it joins anew.
                Err(error) if error.code == INVITE_UNKNOWN => folder.set_code(None)?,
                Ok(machine) => {
                    remember(&folder, &offer)?;
                    return Ok(machine);
                }
                Err(error) => {
                    // What nobody serves would count as lost.
                    let _ = offers::withdraw(&client, &of.session.key, machine).await;
                    return Err(error);
                }
            }
        }
        let expires = client.status().await?.time.plus(offers::AT_ONCE_MS);
        let code = offers::post_invite(&client, &of.session.key, Some(offer), expires).await?;
        folder.set_code(Some(&code))?;
        let joined = self.serve(of, &client, &folder).await;
        match joined {
            Ok(machine) => {
                remember(&folder, &offer)?;
                Ok(machine)
            }
            Err(error) => {
                folder.set_code(None)?;
                Err(error)
            }
        }
    }

    /// Starts the node again; what was offered last is offered again, unless it is paused.
    pub async fn start(&self, of: Of<'_>) -> Answer {
        let _turn = self.turn.lock().await;
        let (client, folder) = (of.client().await?, of.folder());
        self.check_lender(of.lender())?;
        if folder.code().is_none() {
            return Err(CommandError::new(
                NOT_KNOWN,
                "this computer was not lent from this account yet",
                "verify and lend it first",
            ));
        }
        let machine = self.serve(of, &client, &folder).await.map_err(anew)?;
        let offered = client.machine(machine).await?.is_some_and(|view| view.offer.is_some());
        if let (false, None, Some(offer)) = (offered, folder.paused(), folder.offer()) {
            client.act(&of.session.key, Action::Lend { machine, offer, mode: ChangeMode::AfterLease }).await?;
        }
        Ok(())
    }

    /// Runs the node of a machine that has a code, and waits until it serves.
    async fn serve(&self, of: Of<'_>, client: &Client, folder: &Folder) -> Answer<MachineId> {
        if let Some(machine) = self.serving() {
            return Ok(machine);
        }
        let code = folder.code().ok_or_else(|| bug("a node without a code"))?;
        let known = own_view(client, folder, of.session.id).await?;
        let join = ["lend", "join", "-", "--with-parent", "--machine", folder.name()];
        let mut child = Child::start(of.arguments(&join), Some(code.trim())).await?;
        let machine = match joined(&mut child).await {
            Ok(machine) => machine,
            Err(error) => {
                child.stop().await;
                return Err(error);
            }
        };
        let earned_before = known.map_or(Credits::ZERO, |view| view.earned);
        let (lender, since, usage, ended) = (of.lender(), now(), Usage::default(), None);
        *hold(&self.local) = Some(Running { lender, machine, since, earned_before, child, usage, ended });
        Ok(machine)
    }

    /// Stops the node and ends its offer.
    pub async fn stop(&self, of: Of<'_>) -> Answer {
        let _turn = self.turn.lock().await;
        self.check_lender(of.lender())?;
        let folder = of.folder();
        let withdrawing = async {
            let client = of.client().await?;
            match own_machine(&client, &folder, of.session.id).await? {
                Some(machine) => Ok(offers::withdraw(&client, &of.session.key, machine).await?),
                None => Ok(()),
            }
        };
        // The market first: what runs there then ends in good order. Whatever it says, one's own computer is one's own.
        let withdrawn = withdrawing.await;
        self.end_local().await;
        folder.set_paused(None)?;
        withdrawn.map_err(still_offered)
    }

    /// Ends running leases, and takes no more until `until`, or until `resume` where that is 0.
    pub async fn pause(&self, of: Of<'_>, until: u64) -> Answer {
        let _turn = self.turn.lock().await;
        let (client, folder) = (of.client().await?, of.folder());
        let machine = own_machine(&client, &folder, of.session.id).await?.ok_or_else(not_lent)?;
        let offered = client.machine(machine).await?.and_then(|view| view.pending.or(view.offer));
        let before = folder.paused();
        let offer = offered.or(before.as_ref().map(|paused| paused.offer)).or_else(|| folder.offer()).ok_or_else(not_lent)?;
        folder.set_paused(Some(&Paused { until, offer }))?;
        if let Err(error) = offers::withdraw(&client, &of.session.key, machine).await {
            folder.set_paused(before.as_ref())?;
            return Err(error.into());
        }
        Ok(())
    }

    /// Offers again what was offered before the pause.
    pub async fn resume(&self, of: Of<'_>) -> Answer {
        let _turn = self.turn.lock().await;
        match of.folder().paused() {
            Some(paused) => self.go_on(of, &paused).await,
            None => Err(CommandError::new(BAD_INPUT, "this computer isn't paused", "")),
        }
    }

    /// The same for a pause whose time is over; none where there is no such one. Where it fails and another try would, too, the
    /// pause lasts until it is ended by hand.
    pub async fn end_pause(&self, of: Of<'_>) -> Option<(Paused, Answer)> {
        let due = || of.folder().paused().filter(|paused| paused.until > 0 && paused.until <= now());
        due()?;
        let _turn = self.turn.lock().await;
        // It may have been changed while this waited.
        let paused = due()?;
        let outcome = self.go_on(of, &paused).await;
        if outcome.as_ref().is_err_and(|error| !is_worth_a_try(error)) {
            let _ = of.folder().set_paused(Some(&Paused { until: 0, offer: paused.offer }));
        }
        Some((paused, outcome))
    }

    async fn go_on(&self, of: Of<'_>, paused: &Paused) -> Answer {
        self.check_lender(of.lender())?;
        let (client, folder) = (of.client().await?, of.folder());
        let machine = own_machine(&client, &folder, of.session.id).await?.ok_or_else(not_lent)?;
        // First the node: what is offered and not served would count as lost.
        self.serve(of, &client, &folder).await.map_err(anew)?;
        client.act(&of.session.key, Action::Lend { machine, offer: paused.offer, mode: ChangeMode::AfterLease }).await?;
        folder.set_paused(None)
    }

    /// Lends a machine over SSH; returns when it has joined.
    pub async fn lend_over_ssh(&self, of: Of<'_>, target: &str, identity: Option<&str>, program: &str, offer: Offer) -> Answer {
        let _turn = self.remote_turn.lock().await;
        if hold(&self.remote).get_mut(target).is_some_and(Remote::is_running) {
            return Err(CommandError::new(BAD_INPUT, format!("{target} is lent already"), "stop it first"));
        }
        let client = of.client().await?;
        let expires = client.status().await?.time.plus(offers::AT_ONCE_MS);
        let code = offers::post_invite(&client, &of.session.key, Some(offer), expires).await?;
        let mut arguments = of.arguments(&["lend", "ssh", "--code", "-", "--with-parent"]);
        if !program.is_empty() {
            arguments.extend(["--program".into(), program.into()]);
        }
        if let Some(identity) = identity {
            arguments.extend(["--identity".into(), identity.into()]);
        }
        // Whatever was typed, it is no option.
        arguments.extend(["--".into(), target.into()]);
        let mut child = Child::start(arguments, Some(&code.to_string())).await?;
        match joined(&mut child).await {
            Ok(machine) => {
                let remote = Remote { lender: of.lender(), machine, child, running: true };
                hold(&self.remote).insert(target.to_owned(), remote);
                Ok(())
            }
            Err(error) => {
                child.stop().await;
                Err(error)
            }
        }
    }

    pub async fn stop_ssh(&self, of: Of<'_>, target: &str) -> Answer {
        let _turn = self.remote_turn.lock().await;
        let Some(mut remote) = self.take_remote(target, of.lender()) else {
            return Err(CommandError::new(NOT_KNOWN, format!("{target} isn't lent from here"), ""));
        };
        let withdrawing = async { Answer::Ok(offers::withdraw(&of.client().await?, &of.session.key, remote.machine).await?) };
        let withdrawn = withdrawing.await;
        remote.child.stop().await;
        withdrawn.map_err(still_offered)
    }

    fn take_remote(&self, target: &str, lender: Lender) -> Option<Remote> {
        let mut remotes = hold(&self.remote);
        remotes.get(target).filter(|remote| remote.lender == lender)?;
        remotes.remove(target)
    }

    /// Is a process running that lends, here or elsewhere?
    pub fn is_lending(&self) -> bool {
        self.serving().is_some() || hold(&self.remote).values_mut().any(Remote::is_running)
    }

    /// The machine of the running node.
    fn serving(&self) -> Option<MachineId> {
        let mut local = hold(&self.local);
        let running = local.as_mut()?;
        running.look();
        running.ended.is_none().then_some(running.machine)
    }

    /// One computer is lent from one account on one market at a time.
    fn check_lender(&self, lender: Lender) -> Answer {
        let serving = self.serving().is_some();
        let Some(other) = hold(&self.local).as_ref().map(|running| running.lender).filter(|other| serving && *other != lender)
        else {
            return Ok(());
        };
        let place = if other.account == lender.account { "on another market" } else { "from another account" };
        Err(CommandError::new(BAD_INPUT, format!("this computer is lent {place} now"), "stop it there first"))
    }

    async fn end_local(&self) {
        let running = hold(&self.local).take();
        if let Some(mut running) = running {
            running.child.stop().await;
        }
    }

    /// Ends all children; with the key also their offers, so that they don't count as lost.
    pub async fn shut_down(&self, of: Option<Of<'_>>) {
        let remotes = std::mem::take(&mut *hold(&self.remote));
        if let Some(of) = of {
            let here = self.serving().filter(|_| self.check_lender(of.lender()).is_ok());
            let there = remotes.values().filter(|remote| remote.lender == of.lender()).map(|remote| remote.machine);
            // Where the market doesn't answer in time, it notices by itself that a machine is gone.
            let _ = timeout(FAREWELL, withdraw_all(of, here.into_iter().chain(there).collect())).await;
        }
        let ends = remotes.into_values().map(|mut remote| async move { remote.child.stop().await });
        futures::future::join(self.end_local(), futures::future::join_all(ends)).await;
    }

    /// The node as the page shows it. `seen` is what the market said last of the machine, `jobs` what it works for.
    pub fn view(&self, lender: Lender, seen: impl Fn(MachineId) -> Option<Credits>, jobs: Vec<String>) -> view::Node {
        let mut node = self.idle(lender);
        node.elsewhere = self.check_lender(lender).err().map(|error| format!("{}: {}", error.message, error.hint));
        let mut local = hold(&self.local);
        let Some(running) = local.as_mut().filter(|running| running.lender == lender) else { return node };
        running.look();
        node.machine = Some(running.machine.to_string());
        node.log = running.child.lines();
        let earned = seen(running.machine).map_or(Credits::ZERO, |earned| earned.saturating_sub(running.earned_before));
        node.earned = convert::amount(earned);
        node.error = running.ended.as_ref().map(|error| error.message.clone());
        if running.ended.is_none() {
            (node.running, node.since, node.jobs) = (true, Some(running.since), jobs);
            (node.cpu_percent, node.ram_mib) = running.usage.of(running.child.pid());
        }
        node
    }

    /// Without a node of this computer: what is lent over SSH.
    fn idle(&self, lender: Lender) -> view::Node {
        let mut remote = hold(&self.remote);
        let remote = remote.iter_mut().filter(|(_, remote)| remote.lender == lender).map(|(target, remote)| {
            let running = remote.is_running();
            let line = match running {
                true => remote.child.lines().pop().unwrap_or_default(),
                false => remote.child.failure().message,
            };
            view::RemoteNode { target: target.clone(), running, line }
        });
        view::Node {
            running: false,
            since: None,
            machine: None,
            cpu_percent: 0.0,
            ram_mib: 0,
            jobs: Vec::new(),
            earned: convert::amount(Credits::ZERO),
            log: Vec::new(),
            error: None,
            elsewhere: None,
            remote: remote.collect(),
        }
    }
}

impl Running {
    /// Has it ended by itself meanwhile?
    fn look(&mut self) {
        if self.ended.is_none() && self.child.ended().is_some() {
            self.ended = Some(self.child.failure());
        }
    }
}

impl Remote {
    fn is_running(&mut self) -> bool {
        self.running = self.running && self.child.ended().is_none();
        self.running
    }
}

/// Waits until a child says as which machine it joined.
async fn joined(child: &mut Child) -> Answer<MachineId> {
    let answer = timeout(JOIN, child.answer()).await.map_err(|_| {
        let message = format!("the machine did not join within {} s", JOIN.as_secs());
        CommandError::passing(CHILD, message, "look at its last lines, and try again")
    })??;
    let machine = answer.get("machine").and_then(|machine| machine.as_str()).and_then(|machine| machine.parse().ok());
    machine
        .ok_or_else(|| CommandError::new(CHILD, "the program `deepmarket` answers in another way", "is it of PLUTO's release?"))
}

/// This computer's machine, if the market knows it as the account's.
async fn own_view(client: &Client, folder: &Folder, owner: AccountId) -> Answer<Option<MachineView>> {
    let Some(machine) = folder.machine() else { return Ok(None) };
    Ok(client.machine(machine).await?.filter(|view| view.owner == owner))
}

async fn own_machine(client: &Client, folder: &Folder, owner: AccountId) -> Answer<Option<MachineId>> {
    Ok(own_view(client, folder, owner).await?.map(|view| view.id))
}

/// Tells the market what was measured since, where nothing runs on the machine.
async fn renew(client: &Client, of: Of<'_>, folder: &Folder, machine: MachineId) -> Answer {
    let (Some(key), Some(measurement), Some(view)) = (folder.key(), folder.measurement(), client.machine(machine).await?) else {
        return Ok(());
    };
    if view.config == measurement.config || !view.leases.is_empty() {
        return Ok(());
    }
    let proof = machine_proof(&key, &of.market.chain, &of.session.key.public(), &measurement.config);
    let action = Action::RegisterMachine { machine_key: key.public(), config: measurement.config, proof };
    client.act(&of.session.key, action).await?;
    Ok(())
}

/// A new offer is also the end of a pause.
pub fn remember(folder: &Folder, offer: &Offer) -> Answer {
    folder.set_offer(offer)?;
    folder.set_paused(None)
}

async fn withdraw_all(of: Of<'_>, machines: Vec<MachineId>) -> Answer {
    if machines.is_empty() {
        return Ok(());
    }
    let client = of.client().await?;
    for machine in machines {
        let _ = offers::withdraw(&client, &of.session.key, machine).await;
    }
    Ok(())
}

/// May an error pass by itself? One of the program needs somebody who looks at it.
pub fn is_worth_a_try(error: &CommandError) -> bool {
    error.retryable && error.code != CHILD
}

/// A node whose code is no longer good says what to do.
fn anew(error: CommandError) -> CommandError {
    match error.code {
        INVITE_UNKNOWN => CommandError { hint: "lend this computer anew".into(), ..error },
        _ => error,
    }
}

/// It works no more, but the market was not told.
fn still_offered(error: CommandError) -> CommandError {
    let hint = "the compute node has ended, but its offer may still stand: withdraw the machine once the market answers";
    CommandError { hint: hint.into(), ..error }
}

fn not_lent() -> CommandError {
    CommandError::new(NOT_KNOWN, "nothing is offered of this computer", "lend it first")
}

/// The end of an invitation, from now on.
pub fn expires(now: TimeMs, hours: f64) -> Answer<TimeMs> {
    if !(1.0 / 60.0..=7.0 * 24.0).contains(&hours) {
        return Err(CommandError::new(BAD_INPUT, "a code can't live so long", "choose a time from a minute to seven days"));
    }
    Ok(now.plus((hours * 3_600_000.0) as u64))
}
