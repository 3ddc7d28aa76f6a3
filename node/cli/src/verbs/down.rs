use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::{
    error::{Failure, Outcome},
    local_market::MarketFile,
    settings::Settings,
};

/// How long the market may take to end by itself.
const DEADLINE: Duration = Duration::from_secs(30);

fn pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// Is there a process of this id?
pub fn is_alive(process: u32) -> bool {
    pid(process).is_some_and(|pid| test_kill_process(pid).is_ok())
}

pub async fn run(settings: &Settings) -> Outcome {
    let folder = settings.market_folder();
    let file = MarketFile::read(&folder)?.filter(|file| is_alive(file.pid)).ok_or_else(|| {
        MarketFile::remove(&folder);
        Failure::user("no local market is running").with_hint("start one with `deepmarket up`")
    })?;
    let process = pid(file.pid).ok_or_else(|| Failure::bug("market.json holds a process id"))?;
    kill_process(process, Signal::TERM).map_err(|e| Failure::environment(format!("stopping process {}: {e}", file.pid)))?;
    let deadline = Instant::now() + DEADLINE;
    while is_alive(file.pid) {
        if Instant::now() > deadline {
            return Err(Failure::environment(format!("process {} did not end within {} s", file.pid, DEADLINE.as_secs())));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    settings.output.show(&serde_json::json!({ "stopped": file.pid }), || "the local market is stopped; its folder stays".into())
}
