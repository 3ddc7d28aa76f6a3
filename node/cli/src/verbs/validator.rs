use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use deepmarket_api::Client;
use deepmarket_gateway::{Gateway, GatewayConfig, GatewayLimits, Registrar};
use deepmarket_genesis::{Genesis, Validator as Entry};
use deepmarket_net::{Net, NetConfig};
use deepmarket_types::{SecretKey, TimeMs, Voucher};
use deepmarket_wallet::{files::write_whole, keys};
use deepmarket_worker::{JudgeConfig, judge_disputes};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    args::Validator,
    error::{Failure, Outcome, io},
    processes::{free_port, stop_signal, trainer},
    settings::Settings,
};

/// How long a voucher can be used.
const VOUCHER_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// `validator.toml`: what one validator needs to know of itself.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ValidatorFile {
    name: String,
    /// Where the REST gateway listens, for example `127.0.0.1:8600`.
    gateway: String,
    /// Where consensus listens (multiaddress).
    consensus: String,
    /// Where the blob peer listens (multiaddress).
    blobs: String,
    /// Does this gateway vouch for any identity (`open`: local markets only; needs `registrar.json`) or for none (`closed`)?
    registrar: RegistrarPolicy,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RegistrarPolicy {
    Open,
    Closed,
}

/// Ports that were asked for; free ones are taken for the others.
#[derive(Default)]
pub struct Ports {
    pub consensus: Option<u16>,
    pub gateway: Option<u16>,
    pub blobs: Option<u16>,
}

pub async fn run(settings: &Settings, verb: Validator) -> Outcome {
    match verb {
        Validator::Init { dir, name, public_host, consensus_port, gateway_port, blob_port } => {
            let ports = Ports { consensus: consensus_port, gateway: gateway_port, blobs: blob_port };
            let entry = init(&dir, &name, &public_host, ports)?;
            let text = toml::to_string(&entry).map_err(Failure::bug)?;
            settings.output.show(&entry, || format!("[[validators]]\n{text}"))?;
            settings.output.next(format!(
                "put this entry into the genesis document, copy that to {}/genesis.toml, then: deepmarket validator run --dir {}",
                dir.display(),
                dir.display()
            ));
            Ok(())
        }
        Validator::Run { dir, with_parent, limits } => serve(&dir, with_parent, limits.limits()).await,
        Validator::Voucher { dir, identity, key } => {
            let genesis = read_genesis(&dir)?;
            let registrar = keys::read(&registrar_path(&dir))?;
            let expires = now().plus(VOUCHER_LIFETIME.as_millis() as u64);
            let identity = deepmarket_gateway::identity_hash(&registrar, &identity).map_err(Failure::user)?;
            let voucher = Voucher::sign(&registrar, &genesis.chain_id(), identity, key, expires);
            let text = serde_json::to_string_pretty(&voucher).map_err(Failure::bug)?;
            settings.output.show(&voucher, || text)
        }
    }
}

/// Makes a validator's folder; gives its entry for the genesis document.
pub fn init(dir: &Path, name: &str, host: &str, ports: Ports) -> Outcome<Entry> {
    let path = dir.join("validator.toml");
    if path.exists() {
        return Err(Failure::user(format!("{} exists already", path.display())).with_hint("choose another folder with --dir"));
    }
    let key = keys::read_or_make(&key_path(dir))?;
    let port = |asked: Option<u16>| asked.map_or_else(free_port, Ok);
    let (consensus, gateway, blobs) = (port(ports.consensus)?, port(ports.gateway)?, port(ports.blobs)?);
    let local = host == "127.0.0.1";
    let bind = if local { "127.0.0.1" } else { "0.0.0.0" };
    let file = ValidatorFile {
        name: name.to_owned(),
        gateway: format!("{bind}:{gateway}"),
        consensus: format!("/ip4/{bind}/tcp/{consensus}"),
        blobs: format!("/ip4/{bind}/tcp/{blobs}"),
        registrar: if local { RegistrarPolicy::Open } else { RegistrarPolicy::Closed },
    };
    write_whole(&path, toml::to_string(&file).map_err(Failure::bug)?.as_bytes())?;
    let protocol = if host.parse::<std::net::Ipv4Addr>().is_ok() { "ip4" } else { "dns" };
    Ok(Entry {
        name: name.to_owned(),
        key: key.public(),
        consensus: format!("/{protocol}/{host}/tcp/{consensus}"),
        gateway: format!("http://{host}:{gateway}"),
    })
}

/// Runs consensus, gateway and blob peer until a signal.
async fn serve(dir: &Path, with_parent: bool, limits: GatewayLimits) -> Outcome {
    allow_files();
    let path = dir.join("validator.toml");
    let text = fs::read_to_string(&path)
        .map_err(io(path.display()))
        .map_err(|f| f.with_hint("make a validator's folder with `deepmarket validator init`"))?;
    let file: ValidatorFile = toml::from_str(&text).map_err(|e| Failure::user(format!("{}: {e}", path.display())))?;
    let genesis = read_genesis(dir)?;
    let key = keys::read(&key_path(dir))?;
    let chain = genesis.chain_id();
    let stop = stop_signal(with_parent)?;

    let net = NetConfig { key: key.clone(), listen: vec![file.blobs.clone()], blobs: dir.join("blobs"), chain };
    let net = Net::start(net).await.map_err(Failure::environment)?;
    let node = deepmarket_consensus::start(deepmarket_consensus::ValidatorConfig {
        name: file.name.clone(),
        home: dir.join("chain"),
        genesis: genesis.clone(),
        key: key.clone(),
        consensus_listen: file.consensus.clone(),
    })
    .await
    .map_err(Failure::environment)?;
    let registrar = match file.registrar {
        RegistrarPolicy::Open => Some(Registrar::open(keys::read(&registrar_path(dir))?)),
        RegistrarPolicy::Closed => None,
    };
    let judge = judge(&genesis, &key, &stop)?;
    let own_gateway = genesis.validators.iter().find(|v| v.key == key.public()).map(|v| v.gateway.clone());
    let gateways: Vec<String> = genesis.validators.iter().map(|v| v.gateway.clone()).collect();
    let gateway = GatewayConfig {
        listen: file.gateway.clone(),
        validator: file.name,
        genesis: genesis.to_toml(),
        market: genesis.name.clone(),
        chain,
        node: node.clone(),
        net,
        data: dir.join("gateway"),
        registrar,
        own: own_gateway.unwrap_or_default(),
        gateways,
        limits,
    };
    // A node that can't go on (a block that can't be stored, a broken invariant) must not leave a gateway that answers.
    let served = tokio::select! {
        served = Gateway::serve(gateway, stop.clone()) => served.map_err(Failure::environment),
        ended = node.ended() => Err(Failure::environment(match ended {
            Ok(()) => "consensus ended".to_owned(),
            Err(error) => error.to_string(),
        })),
    };
    if let Some(judge) = judge {
        judge.abort();
    }
    node.stop().await;
    served
}

/// The helper that computes disputed steps of audits, where this validator has a trainer. Without one it doesn't judge: the others
/// do, and where too few of them can, the auditors' majority decides.
fn judge(genesis: &Genesis, key: &SecretKey, stop: &CancellationToken) -> Outcome<Option<JoinHandle<()>>> {
    let trainer = match trainer() {
        Ok(trainer) => trainer,
        Err(failure) => {
            tracing::warn!("this validator can't judge disputed work: {failure}");
            return Ok(None);
        }
    };
    // Its own gateway first.
    let (own, others): (Vec<_>, Vec<_>) = genesis.validators.iter().partition(|validator| validator.key == key.public());
    let gateways = own.into_iter().chain(others).map(|validator| validator.gateway.clone()).collect();
    let chain = genesis.chain_id();
    let config = JudgeConfig { chain, key: key.clone(), client: Client::new(gateways)?.only(chain), trainer: trainer.into() };
    Ok(Some(tokio::spawn(judge_disputes(config, stop.clone()))))
}

/// As many open files as the system allows this process: a connection is one, and many systems begin with 1024. Where it says no,
/// the gateway makes do with half of what there is.
fn allow_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn key_path(dir: &Path) -> PathBuf {
    dir.join("key.json")
}

/// The institution's registrar key. All its validators share one, because the salt of identities comes from it: with two, one
/// person could open two accounts.
pub fn registrar_path(dir: &Path) -> PathBuf {
    dir.join("registrar.json")
}

fn read_genesis(dir: &Path) -> Outcome<Genesis> {
    let path = dir.join("genesis.toml");
    let text = fs::read_to_string(&path)
        .map_err(io(path.display()))
        .map_err(|f| f.with_hint("copy the market's genesis document there"))?;
    Genesis::from_toml(&text).map_err(|e| Failure::user(format!("{}: {e}", path.display())))
}

/// This machine's clock.
pub fn now() -> TimeMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimeMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
