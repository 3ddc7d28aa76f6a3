use std::{
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use deepmarket_wallet::{accounts, files::make_private_folder};

use crate::{
    args::Up,
    error::{Failure, Outcome, io},
    local_market::{LocalMarket, MarketFile, lender_identity, lender_keys},
    output,
    processes::stop_signal,
    settings::Settings,
    verbs::{down, lend},
};

/// How long a detached market may take to come up.
const DETACH_DEADLINE: Duration = Duration::from_secs(120);

pub async fn run(settings: &Settings, args: Up) -> Outcome {
    let folder = settings.market_folder();
    if let Some(file) = MarketFile::read(&folder)? {
        if down::is_alive(file.pid) {
            return Err(Failure::user("a local market is already running").with_hint("stop it with `deepmarket down`"));
        }
        MarketFile::remove(&folder);
    }
    if args.detach { detach(settings, &args).await } else { attached(settings, &args).await }
}

async fn attached(settings: &Settings, args: &Up) -> Outcome {
    let stop = stop_signal(false)?;
    let folder = settings.market_folder();
    let started = async {
        let mut market = LocalMarket::start(&folder, args.genesis.as_deref(), settings.output).await?;
        if args.machines > 0
            && let Err(failure) = start_machines(&mut market, settings, args.machines).await
        {
            market.stop().await;
            return Err(failure);
        }
        Ok(market)
    };
    let mut market = tokio::select! {
        started = started => started?,
        () = stop.cancelled() => { MarketFile::remove(&folder); return Ok(()) }
    };
    let gateways = market.gateways().to_vec();
    settings.output.show(&serde_json::json!({ "gateways": gateways, "chain": market.chain }), || {
        output::table(&["gateway"], &[], gateways.iter().map(|g| vec![g.clone()]))
    })?;
    settings.output.next("in another terminal: deepmarket account open --name alice (Ctrl-C here stops the market)");
    let ended = tokio::select! {
        ended = market.keep_running(!args.no_restart, settings.output) => ended.map(|never| match never {}),
        () = stop.cancelled() => Ok(()),
    };
    settings.output.say("stopping the market");
    market.stop().await;
    ended
}

/// The local market's own lenders and their machines. Their keys stay in the market's folder: the accounts on this machine are
/// the user's own.
async fn start_machines(market: &mut LocalMarket, settings: &Settings, machines: u32) -> Outcome {
    let lenders = lender_keys(&market.folder, machines)?;
    for (number, lender) in lenders.iter().enumerate() {
        accounts::open(&market.client, lender, &lender_identity(number, "local")).await?;
    }
    market.lend(&lenders, machines, lend::Offering::one_core(), settings.output).await?;
    lend::wait_until_idle(&market.client, &lenders, machines as usize).await
}

async fn detach(settings: &Settings, args: &Up) -> Outcome {
    let folder = settings.market_folder();
    make_private_folder(&folder)?;
    let log_path = folder.join("up.log");
    let log = std::fs::File::create(&log_path).map_err(io(log_path.display()))?;
    let mut command = Command::new(std::env::current_exe().map_err(io("this program's own path"))?);
    command.arg("--home").arg(&settings.home).args(["up", "--machines", &args.machines.to_string()]);
    if args.no_restart {
        command.arg("--no-restart");
    }
    if let Some(genesis) = &args.genesis {
        command.arg("--genesis").arg(genesis);
    }
    let errors = log.try_clone().map_err(io(log_path.display()))?;
    let mut child =
        command.process_group(0).stdin(Stdio::null()).stdout(log).stderr(errors).spawn().map_err(io("starting the market"))?;
    let deadline = Instant::now() + DETACH_DEADLINE;
    loop {
        // The gateways' table, or their JSON, is the last thing that is printed once all is up.
        if std::fs::read_to_string(&log_path).is_ok_and(|text| text.contains("next: in another terminal")) {
            break;
        }
        let ended = child.try_wait().map_err(io("waiting for the market"))?;
        if ended.is_some() || Instant::now() > deadline {
            let words = std::fs::read_to_string(&log_path).unwrap_or_default();
            let _ = child.kill();
            return Err(Failure::environment(format!("the market did not come up:\n{}", words.trim_end())));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let file = MarketFile::read(&folder)?.ok_or_else(|| Failure::bug("a market that is up has a market.json"))?;
    settings.output.show(&file, || {
        output::table(
            &["part", "process", "folder"],
            &[],
            file.parts.iter().map(|p| {
                vec![p.name.clone(), p.pid.map(|pid| pid.to_string()).unwrap_or_default(), p.folder.display().to_string()]
            }),
        )
    })?;
    settings.output.next("deepmarket account open --name alice (and `deepmarket down` stops the market)");
    Ok(())
}
