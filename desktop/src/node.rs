//! The compute node of this computer and those that are lent over SSH: child processes that run as long as PLUTO does, also
//! while the wallet is locked.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    sync::Mutex,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use deepmarket_api::{ApiError, Client};
use deepmarket_types::{AccountId, Action, ChangeMode, Credits, MachineId, Offer, SecretKey, TimeMs, machine_proof};
use deepmarket_wallet::offers;
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

/// The ledger's codes for a machine of which nothing is offered, and for a code that no open invitation has.
const NOT_OFFERED: u16 = 2039;
const INVITE_UNKNOWN: u16 = 2043;
/// How long this computer's own invitation holds: it is used at once.
const INVITATION_MS: u64 = 10 * 60_000;
/// How long a node may take to measure the machine and to join.
const JOIN: Duration = Duration::from_secs(180);

/// All children that lend.
#[derive(Default)]
pub struct Keeper {
    local: Mutex<Option<Running>>,
    remote: Mutex<BTreeMap<String, Remote>>,
    /// One change at a time.
    turn: tokio::sync::Mutex<()>,
}

/// This computer's node; also after it ended by itself.
struct Running {
    account: AccountId,
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
    account: AccountId,
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
        self.check_account(of.session.id)?;
        if let Some(machine) = own_machine(&client, &folder, of.session.id).await?
            && folder.code().is_some()
        {
            renew(&client, of, &folder, machine).await?;
            client.act(&of.session.key, Action::Lend { machine, offer, mode: ChangeMode::AfterLease }).await?;
            remember(&folder, &offer)?;
            match self.serve(of, &client, &folder).await {
                // Its code is no longer good: it joins anew.
                Err(error) if error.code == INVITE_UNKNOWN => folder.set_code(None)?,
                served => return served,
            }
        }
        let expires = client.status().await?.time.plus(INVITATION_MS);
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
        self.check_account(of.session.id)?;
        if folder.code().is_none() {
            return Err(CommandError::new(
                NOT_KNOWN,
                "this computer was not lent from this account yet",
                "verify and lend it first",
            ));
        }
        let machine = self.serve(of, &client, &folder).await.map_err(|error| match error.code {
            INVITE_UNKNOWN => CommandError { hint: "lend this computer anew".into(), ..error },
            _ => error,
        })?;
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
        let join = ["lend", "join", "-", "--with-parent", "--machine", folder.name()];
        let mut child = Child::start(of.arguments(&join), Some(code.trim())).await?;
        let machine = match joined(&mut child).await {
            Ok(machine) => machine,
            Err(error) => {
                child.stop().await;
                return Err(error);
            }
        };
        let earned_before = client.machine(machine).await?.map_or(Credits::ZERO, |view| view.earned);
        let (account, since, usage, ended) = (of.session.id, now(), Usage::default(), None);
        *hold(&self.local) = Some(Running { account, machine, since, earned_before, child, usage, ended });
        Ok(machine)
    }

    /// Stops the node and ends its offer.
    pub async fn stop(&self, of: Of<'_>) -> Answer {
        let _turn = self.turn.lock().await;
        self.check_account(of.session.id)?;
        // The market first: what runs there then ends in good order.
        if let Some(machine) = of.folder().machine() {
            withdraw(&of.client().await?, &of.session.key, machine).await?;
        }
        of.folder().set_paused(None)?;
        self.end_local().await;
        Ok(())
    }

    /// Ends running leases, and takes no more until `until`, or until `resume` where that is 0.
    pub async fn pause(&self, of: Of<'_>, until: u64) -> Answer {
        let _turn = self.turn.lock().await;
        let (client, folder) = (of.client().await?, of.folder());
        let machine = own_machine(&client, &folder, of.session.id).await?.ok_or_else(not_lent)?;
        let offered = client.machine(machine).await?.and_then(|view| view.pending.or(view.offer));
        let before = folder.paused().map(|paused| paused.offer);
        let offer = offered.or(before).or_else(|| folder.offer()).ok_or_else(not_lent)?;
        folder.set_paused(Some(&Paused { until, offer }))?;
        if let Err(error) = withdraw(&client, &of.session.key, machine).await {
            folder.set_paused(None)?;
            return Err(error);
        }
        Ok(())
    }

    /// Offers again what was offered before the pause.
    pub async fn resume(&self, of: Of<'_>) -> Answer {
        let _turn = self.turn.lock().await;
        let (client, folder) = (of.client().await?, of.folder());
        let Some(paused) = folder.paused() else {
            return Err(CommandError::new(BAD_INPUT, "this computer isn't paused", ""));
        };
        let machine = own_machine(&client, &folder, of.session.id).await?.ok_or_else(not_lent)?;
        client.act(&of.session.key, Action::Lend { machine, offer: paused.offer, mode: ChangeMode::AfterLease }).await?;
        folder.set_paused(None)?;
        self.serve(of, &client, &folder).await.map(|_| ())
    }

    /// Lends a machine over SSH; returns when it has joined.
    pub async fn lend_over_ssh(&self, of: Of<'_>, target: &str, identity: Option<&str>, program: &str, offer: Offer) -> Answer {
        let _turn = self.turn.lock().await;
        if hold(&self.remote).get_mut(target).is_some_and(Remote::is_running) {
            return Err(CommandError::new(BAD_INPUT, format!("{target} is lent already"), "stop it first"));
        }
        let client = of.client().await?;
        let expires = client.status().await?.time.plus(INVITATION_MS);
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
                let remote = Remote { account: of.session.id, machine, child, running: true };
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
        let _turn = self.turn.lock().await;
        let Some(mut remote) = hold(&self.remote).remove(target) else {
            return Err(CommandError::new(NOT_KNOWN, format!("{target} isn't lent from here"), ""));
        };
        remote.child.stop().await;
        if remote.account == of.session.id {
            withdraw(&of.client().await?, &of.session.key, remote.machine).await?;
        }
        Ok(())
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

    /// One computer is lent from one account at a time.
    fn check_account(&self, account: AccountId) -> Answer {
        let other = self.serving().is_some() && hold(&self.local).as_ref().is_some_and(|running| running.account != account);
        match other {
            true => Err(CommandError::new(BAD_INPUT, "this computer is lent from another account now", "stop it there first")),
            false => Ok(()),
        }
    }

    async fn end_local(&self) {
        let running = hold(&self.local).take();
        if let Some(mut running) = running {
            running.child.stop().await;
        }
    }

    /// Ends all children; with the key also their offers, so that they don't count as lost.
    pub async fn shut_down(&self, of: Option<Of<'_>>) {
        let mut machines: Vec<MachineId> = self.serving().into_iter().collect();
        let remotes = std::mem::take(&mut *hold(&self.remote));
        machines.extend(remotes.values().map(|remote| remote.machine));
        if let Some(of) = of.filter(|_| !machines.is_empty())
            && let Ok(client) = of.client().await
        {
            for machine in machines {
                // Where the market doesn't answer, it notices by itself that the machine is gone.
                let _ = withdraw(&client, &of.session.key, machine).await;
            }
        }
        let ends = remotes.into_values().map(|mut remote| async move { remote.child.stop().await });
        futures::future::join(self.end_local(), futures::future::join_all(ends)).await;
    }

    /// The node as the page shows it. `seen` is what the market said last of the machine, `jobs` what it works for.
    pub fn view(&self, account: AccountId, seen: impl Fn(MachineId) -> Option<Credits>, jobs: Vec<String>) -> view::Node {
        let mut node = self.idle(account);
        let mut local = hold(&self.local);
        let Some(running) = local.as_mut().filter(|running| running.account == account) else { return node };
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
    fn idle(&self, account: AccountId) -> view::Node {
        let mut remote = hold(&self.remote);
        let remote = remote.iter_mut().filter(|(_, remote)| remote.account == account).map(|(target, remote)| {
            let running = remote.is_running();
            let line = remote.child.lines().pop().unwrap_or_default();
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
async fn own_machine(client: &Client, folder: &Folder, owner: AccountId) -> Answer<Option<MachineId>> {
    let Some(machine) = folder.machine() else { return Ok(None) };
    Ok(client.machine(machine).await?.filter(|view| view.owner == owner).map(|view| view.id))
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

/// Ends an offer at once; one that has ended already is fine.
pub async fn withdraw(client: &Client, owner: &SecretKey, machine: MachineId) -> Answer {
    match client.act(owner, Action::Withdraw { machine, mode: ChangeMode::AtOnce }).await {
        Err(ApiError::Rejected { code: NOT_OFFERED, .. }) | Ok(_) => Ok(()),
        Err(error) => Err(error.into()),
    }
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
