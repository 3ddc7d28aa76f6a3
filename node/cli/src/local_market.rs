//! A whole market on this machine: four validator processes and some lent machines, each with its own key, folder and ports.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use deepmarket_api::Client;
use deepmarket_genesis::Genesis;
use deepmarket_types::{ChainId, SecretKey};
use deepmarket_wallet::{
    files::{make_private_folder, write_whole},
    keys,
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Failure, Outcome, io},
    output::Output,
    processes::{Part, stop_all},
    verbs::{lend, validator},
};

/// Validators of a local market: one may fail (3f + 1 with f = 1).
pub const VALIDATORS: usize = 4;
/// How long the parts may take to come up on a busy machine.
const START_DEADLINE: Duration = Duration::from_secs(60);

/// `market.json`: how other commands find a running local market.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MarketFile {
    /// Base addresses of the gateways.
    pub gateways: Vec<String>,
    /// The process that runs the market.
    pub pid: u32,
    /// Name, folder and process of each part.
    pub parts: Vec<PartEntry>,
}

/// One process of the market.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PartEntry {
    pub name: String,
    pub folder: PathBuf,
    pub pid: Option<u32>,
}

impl MarketFile {
    fn path(folder: &Path) -> PathBuf {
        folder.join("market.json")
    }

    pub fn read(folder: &Path) -> Outcome<Option<MarketFile>> {
        let path = Self::path(folder);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(io(path.display()))?;
        serde_json::from_str(&text).map(Some).map_err(|e| Failure::environment(format!("{}: {e}", path.display())))
    }

    fn write(&self, folder: &Path) -> Outcome {
        write_whole(&Self::path(folder), serde_json::to_string_pretty(self).map_err(Failure::bug)?.as_bytes())
    }

    pub fn remove(folder: &Path) {
        let _ = fs::remove_file(Self::path(folder));
    }
}

/// A running local market. Its processes end with it.
pub struct LocalMarket {
    pub folder: PathBuf,
    pub client: Client,
    pub chain: ChainId,
    gateways: Vec<String>,
    parts: Vec<Part>,
}

impl LocalMarket {
    /// Starts the validators in `folder` (made anew, or as an earlier run left it) and waits until each has a block.
    pub async fn start(folder: &Path, genesis: Option<&Path>, output: Output) -> Outcome<LocalMarket> {
        // It holds the keys of the whole market.
        make_private_folder(folder)?;
        let genesis = prepare(folder, genesis)?;
        let gateways: Vec<String> = genesis.validators.iter().map(|v| v.gateway.clone()).collect();
        let mut parts = Vec::new();
        for index in 0..genesis.validators.len() {
            let dir = validator_folder(folder, index);
            let arguments = ["validator", "run", "--with-parent", "--dir"].map(str::to_owned);
            let arguments = arguments.into_iter().chain([dir.display().to_string()]).collect();
            parts.push(Part::start(&format!("validator-{index}"), &dir, arguments)?);
        }
        let client = Client::new(gateways.clone())?;
        let mut market = LocalMarket { folder: folder.to_owned(), client, chain: genesis.chain_id(), gateways, parts };
        market.wait_for_blocks().await?;
        market.write_file()?;
        output.say(format!("market '{}' runs: {} validators, chain {}", genesis.name, market.parts.len(), market.chain));
        Ok(market)
    }

    async fn wait_for_blocks(&mut self) -> Outcome {
        let deadline = Instant::now() + START_DEADLINE;
        for gateway in self.gateways.clone() {
            let client = Client::new(vec![gateway.clone()])?;
            loop {
                if client.status().await.is_ok_and(|status| status.height.0 >= 1) {
                    break;
                }
                self.check_parts()?;
                if Instant::now() > deadline {
                    return Err(Failure::environment(format!("{gateway} made no block within {} s", START_DEADLINE.as_secs()))
                        .with_hint(format!("see the output.log files under {}", self.folder.display())));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    fn check_parts(&mut self) -> Outcome {
        for part in &mut self.parts {
            if let Some(status) = part.ended() {
                return Err(Failure::environment(format!("{} ended ({status}):\n{}", part.name, part.last_words())));
            }
        }
        Ok(())
    }

    /// Measures, registers and offers machines, and starts an agent for each. The owners get them in turn.
    pub async fn lend(
        &mut self,
        owners: &[SecretKey],
        machines: u32,
        offering: lend::Offering,
        output: Output,
    ) -> Outcome<Vec<lend::Lent>> {
        let mut lent = Vec::new();
        for index in 0..machines {
            let name = format!("machine-{index}");
            let dir = self.folder.join(&name);
            let owner = &owners[index as usize % owners.len()];
            let machine = lend::offer(&self.client, &dir, &name, owner, offering).await?;
            output.say(format!(
                "{name}: {} cores, {} MiB, {} million multiply-adds/s; lent {} core, {} MiB as {}",
                machine.config.resources.cores,
                machine.config.resources.ram_mib,
                machine.config.speed,
                machine.offer.resources.cores,
                machine.offer.resources.ram_mib,
                machine.id
            ));
            let mut arguments: Vec<String> = ["lend", "run", "--with-parent", "--dir"].into_iter().map(str::to_owned).collect();
            arguments.extend([dir.display().to_string(), "--gateway".into(), self.gateways.join(",")]);
            self.parts.push(Part::start(&name, &dir, arguments)?);
            lent.push(machine);
        }
        self.write_file()?;
        Ok(lent)
    }

    pub fn write_file(&self) -> Outcome {
        let parts =
            self.parts.iter().map(|p| PartEntry { name: p.name.clone(), folder: self.folder.join(&p.name), pid: p.pid() });
        let file = MarketFile { gateways: self.gateways.clone(), pid: std::process::id(), parts: parts.collect() };
        file.write(&self.folder)
    }

    pub fn gateways(&self) -> &[String] {
        &self.gateways
    }

    /// Starts parts that ended unexpectedly again; runs until dropped.
    pub async fn keep_running(&mut self, restart: bool, output: Output) -> Outcome<std::convert::Infallible> {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let mut changed = false;
            for part in &mut self.parts {
                if !restart {
                    break;
                }
                if let Some(status) = part.ended() {
                    output.say(format!("{} ended unexpectedly ({status}); starting it again", part.name));
                    part.restart()?;
                    changed = true;
                }
            }
            if changed {
                self.write_file()?;
            }
        }
    }

    /// Ends all processes.
    pub async fn stop(&mut self) {
        // Lenders first, so that their last words find a chain.
        self.parts.reverse();
        let machines = self.parts.iter().take_while(|p| p.name.starts_with("machine")).count();
        stop_all(&mut self.parts[..machines]).await;
        stop_all(&mut self.parts[machines..]).await;
        MarketFile::remove(&self.folder);
    }
}

fn validator_folder(folder: &Path, index: usize) -> PathBuf {
    folder.join(format!("validator-{index}"))
}

/// Makes keys, ports and the genesis document of a new market; an existing one is read again.
fn prepare(folder: &Path, genesis: Option<&Path>) -> Outcome<Genesis> {
    let path = folder.join("genesis.toml");
    let parse = |text: &str, name: String| Genesis::from_toml(text).map_err(|e| Failure::user(format!("{name}: {e}")));
    if path.exists() {
        let text = fs::read_to_string(&path).map_err(io(path.display()))?;
        return parse(&text, path.display().to_string());
    }
    let document = match genesis {
        Some(path) => parse(&fs::read_to_string(path).map_err(io(path.display()))?, path.display().to_string())?,
        None => parse(deepmarket_genesis::LOCAL, "the built-in local market".into())?,
    };
    let mut validators = Vec::new();
    for index in 0..VALIDATORS {
        let dir = validator_folder(folder, index);
        validators.push(validator::init(&dir, &format!("local-{index}"), "127.0.0.1", validator::Ports::default())?);
    }
    let registrar = SecretKey::generate();
    for index in 0..VALIDATORS {
        keys::write(&validator::registrar_path(&validator_folder(folder, index)), &registrar)?;
    }
    let document = document.complete(validator::now(), validators, vec![registrar.public()]).map_err(Failure::user)?;
    let text = document.to_toml();
    for index in 0..VALIDATORS {
        write_whole(&validator_folder(folder, index).join("genesis.toml"), text.as_bytes())?;
    }
    write_whole(&path, text.as_bytes())?;
    Ok(document)
}

/// The keys of a local market's lenders: one for each machine, up to three. Work of one lender's machines is computed again by
/// another's only.
pub fn lender_keys(folder: &Path, machines: u32) -> Outcome<Vec<SecretKey>> {
    let names = ["lender.json", "lender-2.json", "lender-3.json"];
    names.iter().take(machines.max(1) as usize).map(|name| keys::read_or_make(&folder.join(name))).collect()
}

/// The identity that a local market's lender is known by.
pub fn lender_identity(number: usize, host: &str) -> String {
    if number == 0 { format!("lender@{host}") } else { format!("lender{}@{host}", number + 1) }
}
