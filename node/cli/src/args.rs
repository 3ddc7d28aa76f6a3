use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand};
use deepmarket_types::{Credits, JobId};

mod data;
mod gateway;
mod lend;

pub use data::{Add, Data};
pub use gateway::GatewayFlags;
#[cfg(test)]
pub use lend::WhenClosed;
pub use lend::{Change, Evaluate, Invite, Join, Lend, OfferFlags, Reach, Ssh, Start};

/// Lend idle machines, earn credits, and spend them to train models on other people's machines.
#[derive(Parser)]
#[command(
    name = "deepmarket",
    version,
    after_help = "Examples:\n  deepmarket demo                         the whole market on this machine, once\n  deepmarket up                           a local market that stays\n  deepmarket account open --name alice    an account with 50 credits\n  deepmarket job submit examples/mnist.toml --follow"
)]
pub struct Args {
    /// Print one JSON value on standard output; progress and errors go to standard error.
    #[arg(long, global = true)]
    pub json: bool,
    /// Gateways of the market, tried in order [default: those of `deepmarket up`].
    #[arg(long, global = true, value_name = "URL", env = "DEEPMARKET_GATEWAY", value_delimiter = ',')]
    pub gateway: Vec<String>,
    /// Where keys, data and the local market live [default: ~/.deepmarket].
    #[arg(long, global = true, value_name = "DIR", env = "DEEPMARKET_HOME")]
    pub home: Option<PathBuf>,
    /// Name of the account that signs [default: the only one].
    #[arg(long, global = true, value_name = "NAME", env = "DEEPMARKET_ACCOUNT")]
    pub account: Option<String>,
    /// Show what goes on inside (repeat for more).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand)]
pub enum Verb {
    /// Run the main job before your eyes: a market of four validators and three lenders trains MNIST and pays for it.
    #[command(
        after_help = "Example:\n  deepmarket demo --dataset data/mnist\n  deepmarket demo --job examples/mnist-local.toml --json"
    )]
    Demo(Demo),
    /// Start a local market (four validators, three lent machines) and leave it running.
    #[command(after_help = "Example:\n  deepmarket up\n  deepmarket up --detach && deepmarket prices && deepmarket down")]
    Up(Up),
    /// Stop the local market that `up --detach` started.
    #[command(after_help = "Example:\n  deepmarket down")]
    Down,
    /// Open an account or look at one.
    #[command(subcommand)]
    Account(Account),
    /// Bring data into the market.
    #[command(subcommand)]
    Data(Data),
    /// Submit training jobs and follow them.
    #[command(subcommand)]
    Job(Job),
    /// Lend this machine, or bring in others.
    #[command(subcommand)]
    Lend(Lend),
    /// Show today's prices of the four slots.
    #[command(after_help = "Example:\n  deepmarket prices")]
    Prices,
    /// Look into the chain.
    #[command(subcommand)]
    Chain(Chain),
    /// Run a validator.
    #[command(subcommand)]
    Validator(Validator),
}

#[derive(ClapArgs)]
pub struct Demo {
    /// The job to run.
    #[arg(long, value_name = "FILE", default_value = "examples/mnist.toml")]
    pub job: PathBuf,
    /// Folder with the dataset's IDX files (train-images-idx3-ubyte and so on).
    #[arg(long, value_name = "DIR", default_value = "data/mnist")]
    pub dataset: PathBuf,
    /// Keep the market's folder afterwards and put it here [default: a temporary folder].
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Lent machines.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub machines: u32,
    /// Run the job once; without this a second run shows how good a quote is that knows the machines.
    #[arg(long)]
    pub once: bool,
}

#[derive(ClapArgs)]
pub struct Up {
    /// Lent machines (0: validators only).
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub machines: u32,
    /// Go to the background; `deepmarket down` stops it.
    #[arg(long)]
    pub detach: bool,
    /// Genesis document with the market's parameters [default: the built-in local one].
    #[arg(long, value_name = "FILE")]
    pub genesis: Option<PathBuf>,
    /// Leave a validator down when it ends unexpectedly (for experiments with faults).
    #[arg(long)]
    pub no_restart: bool,
}

#[derive(Subcommand)]
pub enum Account {
    /// Make a key, prove an identity to the registrar, and open an account with the starting credits.
    #[command(after_help = "Example:\n  deepmarket account open --name alice --identity alice@pdx.edu")]
    Open {
        /// The account's name on this machine.
        #[arg(long, default_value = "default")]
        name: String,
        /// The identity to verify [default: the name].
        #[arg(long)]
        identity: Option<String>,
        /// A voucher that a registrar gave (JSON), instead of asking the gateway's registrar.
        #[arg(long, value_name = "FILE")]
        voucher: Option<PathBuf>,
    },
    /// Show an account's balance, what it may expect of the next 24 hours, its jobs and machines.
    #[command(after_help = "Example:\n  deepmarket account show\n  deepmarket account show dm1…")]
    Show {
        /// A name on this machine or an account id [default: the account that signs].
        who: Option<String>,
    },
    /// Show where an account's credits came from and went, entry by entry.
    #[command(after_help = "Example:\n  deepmarket account history\n  deepmarket account history --csv history.csv")]
    History {
        /// A name on this machine or an account id [default: the account that signs].
        who: Option<String>,
        /// How many entries at the most [default: 50; all with --csv].
        #[arg(long)]
        limit: Option<usize>,
        /// Write the entries to this file, for a spreadsheet.
        #[arg(long, value_name = "FILE")]
        csv: Option<PathBuf>,
    },
    /// Show what the account's machines earned and its jobs cost, day by day.
    #[command(after_help = "Example:\n  deepmarket account days --days 7")]
    Days {
        /// A name on this machine or an account id [default: the account that signs].
        who: Option<String>,
        /// How many days back, today included.
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=366))]
        days: u32,
    },
    /// Show why the balance is what it is: all entries, summed up by cause.
    #[command(after_help = "Example:\n  deepmarket account statement")]
    Statement {
        /// A name on this machine or an account id [default: the account that signs].
        who: Option<String>,
    },
    /// List the accounts whose keys are on this machine.
    #[command(after_help = "Example:\n  deepmarket account ls")]
    Ls,
    /// Send earned credits to another account.
    #[command(after_help = "Example:\n  deepmarket account transfer dm1… 2.5")]
    Transfer {
        /// A name on this machine or an account id.
        to: String,
        /// Credits.
        amount: Credits,
    },
}

#[derive(Subcommand)]
pub enum Job {
    /// What would this job cost, and how long would it take?
    #[command(
        after_help = "Example:\n  deepmarket job quote examples/mnist.toml\n  deepmarket job quote examples/mnist.toml --audit 100"
    )]
    Quote {
        /// The job file.
        file: PathBuf,
        /// So many of a hundred receipts are audited at least, whatever the file says.
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
        audit: Option<u8>,
    },
    /// Submit a job; its budget goes into escrow.
    #[command(
        after_help = "Example:\n  deepmarket job submit examples/mnist.toml --follow\n  deepmarket job submit examples/mnist.toml --audit 50"
    )]
    Submit {
        /// The job file.
        file: PathBuf,
        /// So many of a hundred receipts are audited at least, whatever the file says; more cost more.
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
        audit: Option<u8>,
        /// Follow the job until it ends (Ctrl-C stops following, not the job).
        #[arg(long, short)]
        follow: bool,
    },
    /// List jobs.
    #[command(after_help = "Example:\n  deepmarket job ls --all")]
    Ls {
        /// Of all accounts, not only of those on this machine.
        #[arg(long)]
        all: bool,
    },
    /// Show a job: its state and why, its loss so far, workers and where their time went, receipts and cost.
    #[command(after_help = "Example:\n  deepmarket job show job-1")]
    Show {
        /// The job.
        job: JobId,
    },
    /// Show what a job's workers report, and which of them come and go.
    #[command(after_help = "Example:\n  deepmarket job logs job-1 --follow")]
    Logs {
        /// The job.
        job: JobId,
        /// Go on until the job ends; with --json one value a line.
        #[arg(long, short)]
        follow: bool,
    },
    /// Show a job's numbers: loss, accuracy and speed, which workers trained which samples, and where their time went.
    #[command(
        after_help = "Example:\n  deepmarket job metrics job-1 --follow\n  deepmarket job metrics job-1 --csv > metrics.csv"
    )]
    Metrics {
        /// The job.
        job: JobId,
        /// Go on until the job ends; with --json one value a line.
        #[arg(long, short)]
        follow: bool,
        /// Print comma-separated values, for a spreadsheet.
        #[arg(long)]
        csv: bool,
    },
    /// Show who committed to which rounds of a job, which of them other machines computed again, and what they found.
    #[command(after_help = "Example:\n  deepmarket job verify job-1\n  deepmarket job verify job-1 --wait")]
    Verify {
        /// The job.
        job: JobId,
        /// Wait until no audit is open any more.
        #[arg(long)]
        wait: bool,
    },
    /// Stop a job; what was not used comes back.
    #[command(after_help = "Example:\n  deepmarket job cancel job-1")]
    Cancel {
        /// The job.
        job: JobId,
    },
    /// Fetch what a job made: its model (safetensors; the last checkpoint's, where it was stopped), its evaluation or its
    /// predictions, with its spec and its metrics (CSV, and TensorBoard's event file).
    #[command(after_help = "Example:\n  deepmarket job result job-1 --out model/ --evaluate\n  tensorboard --logdir model/")]
    Result {
        /// The job.
        job: JobId,
        /// The folder to put it into.
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// Compute the accuracy on the validation data again, on this machine.
        #[arg(long)]
        evaluate: bool,
    },
}

#[derive(Subcommand)]
pub enum Chain {
    /// Show the chain's tip and the ledger's totals.
    #[command(after_help = "Example:\n  deepmarket chain status")]
    Status,
    /// Show a block.
    #[command(after_help = "Example:\n  deepmarket chain block\n  deepmarket chain block 17")]
    Block {
        /// Its height [default: the latest].
        height: Option<u64>,
    },
    /// Show a transaction, what became of it, and what it caused.
    #[command(after_help = "Example:\n  deepmarket chain tx aadbf65844e5")]
    Tx {
        /// Its id; the first digits are enough for the account's own.
        id: String,
    },
    /// Check the whole chain from its genesis document alone: every certificate, signature and rule, again on this machine. With
    /// --job also all that the chain says about one job's work and pay.
    #[command(
        after_help = "Example:\n  deepmarket chain verify\n  deepmarket chain verify --job job-1\n  deepmarket chain verify --genesis genesis.toml"
    )]
    Verify {
        /// Show what was found about this job.
        #[arg(long, value_name = "JOB")]
        job: Option<JobId>,
        /// The market's genesis document, from somewhere that you trust [default: the gateway's, whose chain id is shown].
        #[arg(long, value_name = "FILE")]
        genesis: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub enum Validator {
    /// Make a validator's folder and key; prints its entry for the genesis document.
    #[command(after_help = "Example:\n  deepmarket validator init --dir validator --name psu-1 --public-host validator1.pdx.edu")]
    Init {
        /// The validator's folder.
        #[arg(long)]
        dir: PathBuf,
        /// Its name.
        #[arg(long)]
        name: String,
        /// Host or address that others reach it at.
        #[arg(long, default_value = "127.0.0.1")]
        public_host: String,
        /// Port of consensus [default: a free one].
        #[arg(long)]
        consensus_port: Option<u16>,
        /// Port of the REST gateway [default: a free one].
        #[arg(long)]
        gateway_port: Option<u16>,
        /// Port of the blob peer [default: a free one].
        #[arg(long)]
        blob_port: Option<u16>,
    },
    /// Run a validator and its gateway.
    #[command(after_help = "Example:\n  deepmarket validator run --dir validator")]
    Run {
        /// The validator's folder, with `genesis.toml` in it.
        #[arg(long)]
        dir: PathBuf,
        /// End when standard input ends: the parent died.
        #[arg(long, hide = true)]
        with_parent: bool,
        /// What the gateway allows each address.
        #[command(flatten)]
        limits: GatewayFlags,
    },
    /// Issue a registrar's voucher for a verified identity (needs the institution's registrar.json in the folder).
    #[command(after_help = "Example:\n  deepmarket validator voucher --dir validator --identity alice@pdx.edu --key <hex>")]
    Voucher {
        /// The validator's folder.
        #[arg(long)]
        dir: PathBuf,
        /// The identity that was verified.
        #[arg(long)]
        identity: String,
        /// The public key of the account to open.
        #[arg(long)]
        key: deepmarket_types::PublicKey,
    },
}
