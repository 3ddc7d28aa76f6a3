use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use deepmarket_types::{ChangeMode, Credits};

use crate::{
    share::{Share, count, mib},
    when::{Days, Hours, Until},
};

#[derive(Subcommand)]
pub enum Lend {
    /// Measure this machine: cores, memory, disk, GPUs, and training speed.
    #[command(after_help = "Example:\n  deepmarket lend verify")]
    Verify {
        /// The machine's name.
        #[arg(long, default_value = "this-machine")]
        machine: String,
    },
    /// Check a wished offer against the machine, and show what it would earn in each of the next four slots.
    #[command(
        after_help = "Example:\n  deepmarket lend evaluate --cores 50% --ram-mib 2GiB --hours 18:00-08:00 --days mon-fri --min-price 0.5"
    )]
    Evaluate(Evaluate),
    /// Register this machine, offer a part of it, and work for others until Ctrl-C.
    #[command(
        after_help = "Example:\n  deepmarket lend start --cores 1 --ram-mib 1024 --min-price 0.1\n  deepmarket lend start --cores 50% --ram-mib 50% --hours 18:00-08:00 --days mon-fri --until 2026-12-24"
    )]
    Start(Start),
    /// Change what is offered of a lent machine; what isn't named stays.
    #[command(
        visible_alias = "offer",
        after_help = "Example:\n  deepmarket lend change --cores 2 --hours all\n  deepmarket lend change --machine dmm1… --min-price 0.8 --at-once"
    )]
    Change(Change),
    /// Make a one-time code by which a remote machine joins your account.
    #[command(
        after_help = "Example:\n  deepmarket lend invite --cores 2 --ram-mib 2048 --expires 2h\n  then, over there: deepmarket lend join K7QD-M2XP-9A0B-CDEF --gateway http://…"
    )]
    Invite(Invite),
    /// Join this machine to the account that made a one-time code, and work for others until Ctrl-C. Needs no account here.
    #[command(after_help = "Example:\n  deepmarket lend join K7QD-M2XP-9A0B-CDEF --gateway http://validator1.pdx.edu:8600")]
    Join(Join),
    /// Lend a machine that you reach by SSH: makes a one-time code and runs `lend join` over there until Ctrl-C.
    #[command(
        after_help = "Example:\n  deepmarket lend ssh alice@lab7.pdx.edu --cores 50% --hours 18:00-08:00\n\nSSH uses your own agent or --identity, and only hosts whose key you pinned: no password is asked for or stored."
    )]
    Ssh(Ssh),
    /// Serve leases of a machine that is already offered (what `lend start` does after offering).
    #[command(hide = true)]
    Run {
        /// The machine's folder.
        #[arg(long)]
        dir: PathBuf,
        #[command(flatten)]
        reach: Reach,
        /// End when standard input ends: the parent died.
        #[arg(long)]
        with_parent: bool,
    },
    /// End a machine's offer.
    #[command(after_help = "Example:\n  deepmarket lend stop --after-lease")]
    Stop {
        /// A name on this machine or in the account, or a machine's id.
        #[arg(long, default_value = "this-machine")]
        machine: String,
        /// Let the running lease end first.
        #[arg(long)]
        after_lease: bool,
    },
    /// Show the account's machines: state and why, offer, reliability, speed, leases, earnings.
    #[command(after_help = "Example:\n  deepmarket lend status\n  deepmarket lend status --machine this-machine")]
    Status {
        /// Of all accounts.
        #[arg(long)]
        all: bool,
        /// Only this machine: a name on this machine or in the account, or a machine's id.
        #[arg(long)]
        machine: Option<String>,
    },
}

#[derive(Args)]
pub struct Evaluate {
    /// A name on this machine (its last measurement is used where there is one) or in the account, or a machine's id.
    #[arg(long, default_value = "this-machine")]
    pub machine: String,
    #[command(flatten)]
    pub offer: Box<OfferFlags>,
}

#[derive(Args)]
pub struct Start {
    /// The machine's name.
    #[arg(long, default_value = "this-machine")]
    pub machine: String,
    #[command(flatten)]
    pub reach: Reach,
    #[command(flatten)]
    pub offer: Box<OfferFlags>,
}

#[derive(Args)]
pub struct Change {
    /// A name on this machine or in the account, or a machine's id.
    #[arg(long, default_value = "this-machine")]
    pub machine: String,
    /// Now, even where running leases use more than the new offer has: these end, their jobs with them, and it counts
    /// against the machine [default: after them].
    #[arg(long)]
    pub at_once: bool,
    #[command(flatten)]
    pub offer: Box<OfferFlags>,
}

#[derive(Args)]
pub struct Invite {
    /// How long the code can be used: 30m, 1h, 7d.
    #[arg(long, default_value = "1h", value_name = "TIME", value_parser = lifetime)]
    pub expires: u64,
    #[command(flatten)]
    pub offer: Box<OfferFlags>,
}

#[derive(Args)]
pub struct Join {
    /// The one-time code; `-` reads it from standard input.
    #[arg(value_name = "CODE")]
    pub code: String,
    /// The machine's name [default: this host's name].
    #[arg(long)]
    pub machine: Option<String>,
    #[command(flatten)]
    pub reach: Reach,
    /// End when standard input ends: the other side is gone.
    #[arg(long, hide = true)]
    pub with_parent: bool,
}

#[derive(Args)]
pub struct Ssh {
    /// Where: USER@HOST, USER@HOST:PORT, or a name of your SSH configuration.
    #[arg(value_name = "USER@HOST[:PORT]")]
    pub target: String,
    /// The machine's name [default: its host's name].
    #[arg(long)]
    pub machine: Option<String>,
    /// The program `deepmarket` over there.
    #[arg(long, value_name = "PATH", default_value = "deepmarket")]
    pub program: String,
    /// Private key to prove yourself with [default: what your agent and SSH configuration have].
    #[arg(long, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Pinned host keys [default: yours, ~/.ssh/known_hosts].
    #[arg(long, value_name = "FILE")]
    pub known_hosts: Option<PathBuf>,
    /// A one-time code that was made elsewhere; `-` reads it from standard input. Needs no account here, and who made the code
    /// ends the offer [default: your account makes one].
    #[arg(long, value_name = "CODE", conflicts_with = "OfferFlags")]
    pub code: Option<String>,
    /// End when standard input ends: the parent died.
    #[arg(long, hide = true)]
    pub with_parent: bool,
    #[command(flatten)]
    pub reach: Reach,
    #[command(flatten)]
    pub offer: Box<OfferFlags>,
}

/// How other workers reach a machine.
#[derive(Args, Clone, Debug, Default)]
pub struct Reach {
    /// Address to listen on for other workers [default: a free port; only of this machine where the market is on it].
    #[arg(long, value_name = "MULTIADDR")]
    pub listen: Option<String>,
    /// Address that other workers are told, where it isn't the one that is listened on: a forwarded port, for example. May be given
    /// several times [default: what is listened on].
    #[arg(long, value_name = "MULTIADDR", value_parser = public_address)]
    pub public_address: Vec<String>,
}

fn public_address(text: &str) -> Result<String, String> {
    deepmarket_net::check_address(text).map(|()| text.to_owned()).map_err(|e| e.to_string())
}

/// What is offered of a machine, when, and for how much. Flattened last: the heading is of all that follows.
#[derive(Args, Default, PartialEq)]
#[command(next_help_heading = "Offer (times are in the market's clock, which `lend evaluate` shows)")]
pub struct OfferFlags {
    /// Cores to lend: a number or a share (50%) [default: 1].
    #[arg(long, value_name = "N|%", value_parser = count)]
    pub cores: Option<Share>,
    /// Memory to lend: MiB, GiB (2GiB) or a share (50%) [default: 1024].
    #[arg(long, visible_alias = "ram", value_name = "MIB|%", value_parser = mib)]
    pub ram_mib: Option<Share>,
    /// Disk to lend: MiB, GiB (2GiB) or a share of what is free [default: 1024].
    #[arg(long, visible_alias = "disk", value_name = "MIB|%", value_parser = mib)]
    pub disk_mib: Option<Share>,
    /// GPUs to lend: a number or a share [default: 0].
    #[arg(long, value_name = "N|%", value_parser = count)]
    pub gpus: Option<Share>,
    /// Hours of each day, also over midnight: 18:00-08:00 [default: all].
    #[arg(long, value_name = "FROM-TO")]
    pub hours: Option<Hours>,
    /// Days of the week on which these hours begin: mon-fri, mon,wed [default: all].
    #[arg(long, value_name = "DAYS")]
    pub days: Option<Days>,
    /// The offer's end: the end of a day (2026-12-24), a moment (2026-12-24T18:00), or a time from now (3d, 12h)
    /// [default: never].
    #[arg(long, value_name = "WHEN")]
    pub until: Option<Until>,
    /// The least price of a core-hour in credits: below it the machine takes no work [default: 0].
    #[arg(long, value_name = "CREDITS")]
    pub min_price: Option<Credits>,
    /// The least price of a GPU-hour in credits [default: 0].
    #[arg(long, value_name = "CREDITS")]
    pub min_gpu_price: Option<Credits>,
    /// The least price of an hour of a GiB of memory in credits [default: 0].
    #[arg(long, value_name = "CREDITS")]
    pub min_ram_price: Option<Credits>,
    /// The least price of an hour of a GiB of disk in credits [default: 0].
    #[arg(long, value_name = "CREDITS")]
    pub min_disk_price: Option<Credits>,
    /// What happens to running leases when the hours or the offer end [default: after-lease].
    #[arg(long, value_name = "HOW")]
    pub when_closed: Option<WhenClosed>,
}

impl OfferFlags {
    /// Was nothing said?
    pub fn is_empty(&self) -> bool {
        *self == OfferFlags::default()
    }
}

/// [`ChangeMode`] as it is typed.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum WhenClosed {
    /// They end, paid up to their last receipt.
    AtOnce,
    /// They go on to their end; no new one begins.
    AfterLease,
}

impl From<WhenClosed> for ChangeMode {
    fn from(when: WhenClosed) -> ChangeMode {
        match when {
            WhenClosed::AtOnce => ChangeMode::AtOnce,
            WhenClosed::AfterLease => ChangeMode::AfterLease,
        }
    }
}

/// Milliseconds of `30m`, `1h`, `7d`: a minute to a week, which is the longest that the market keeps an invitation.
fn lifetime(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is not a time from 1m to 7d: write minutes (30m), hours (1h) or days (7d)");
    let units = [('m', 60_000), ('h', 3_600_000), ('d', 24 * 3_600_000_u64)];
    let (number, ms) = units.iter().find_map(|(unit, ms)| Some((text.trim().strip_suffix(*unit)?, ms))).ok_or_else(wrong)?;
    let whole = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*ms)).ok_or_else(wrong)?;
    (60_000..=7 * 24 * 3_600_000).contains(&whole).then_some(whole).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::Args;

    #[test]
    fn a_code_lives_for_a_minute_to_a_week() {
        assert_eq!((lifetime("30m"), lifetime("1h"), lifetime("7d")), (Ok(1_800_000), Ok(3_600_000), Ok(604_800_000)));
        for bad in ["", "1", "0m", "8d", "1.5h", "-1h", "h", "18446744073709551615d"] {
            assert!(lifetime(bad).unwrap_err().contains("1m to 7d"), "{bad}");
        }
    }

    #[test]
    fn a_machine_is_lent_over_ssh_with_a_code_that_has_an_offer_or_with_an_offer() {
        let typed = |more: &[&str]| Args::try_parse_from([&["deepmarket", "lend", "ssh", "alice@lab7"], more].concat());
        for fine in [&[][..], &["--code", "-"], &["--code", "-", "--with-parent", "--machine", "far"], &["--cores", "1"]] {
            assert!(typed(fine).is_ok(), "{fine:?}");
        }
        let error = typed(&["--code", "-", "--cores", "1"]).err().unwrap().to_string();
        assert!(error.contains("--code") && error.contains("cannot be used with"), "{error}");
    }
}
