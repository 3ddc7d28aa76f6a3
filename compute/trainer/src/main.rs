//! `deepmarket-trainer [serve] [--ram-mib N]`: answers requests on standard input until `Stop`.
//! `deepmarket-trainer bench [--seconds N]`: prints seconds per MNIST epoch on one core as JSON.

use std::{io, process::ExitCode};

mod memory;

const USAGE: &str = "usage: deepmarket-trainer [serve] [--ram-mib N] | bench [--seconds N] | --version
  serve   answers a worker's requests on standard input and output (the worker starts it)
  bench   measures seconds per MNIST epoch of two models on one core, as JSON";

enum Command {
    Serve { ram_mib: Option<u64> },
    Bench { seconds: u64 },
    Version,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(Command::Version) => println!("{}", deepmarket_trainer::determinism_class()),
        // Confined as a job is, so that it costs what a job costs. Its output may be a file, so it isn't limited.
        Ok(Command::Bench { seconds }) => match deepmarket_trainer::confine() {
            Ok(()) => println!("{:#}", deepmarket_trainer::bench(seconds)),
            Err(error) => return refuse(&error),
        },
        Ok(Command::Serve { ram_mib }) => return serve(ram_mib),
        Err(message) => {
            eprintln!("{message}\n{USAGE}");
            return ExitCode::from(1);
        }
    }
    ExitCode::SUCCESS
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<Command, String> {
    let mut arguments = arguments.peekable();
    let verb = arguments.next_if(|argument| !argument.starts_with('-'));
    let (mut ram_mib, mut seconds) = (None, 10);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments.next().and_then(|value| value.parse::<u64>().ok()).filter(|value| *value > 0);
            value.ok_or(format!("{argument} needs a whole number"))
        };
        match argument.as_str() {
            "--version" => return Ok(Command::Version),
            "--ram-mib" => ram_mib = Some(number()?),
            "--seconds" => seconds = number()?,
            _ => return Err(format!("'{argument}' is not known")),
        }
    }
    match verb.as_deref() {
        None | Some("serve") => Ok(Command::Serve { ram_mib }),
        Some("bench") => Ok(Command::Bench { seconds }),
        Some(verb) => Err(format!("'{verb}' is not known")),
    }
}

/// Starts this program anew in its own place, unless the allocator was set up already, as the agent does.
#[cfg(unix)]
fn take_memory_on_demand() -> Result<(), String> {
    use std::os::unix::process::CommandExt as _;
    let (name, value) = deepmarket_sandbox::ENVIRONMENT;
    if std::env::var_os(name).is_some_and(|set| set == value) {
        return Ok(());
    }
    let program = std::env::current_exe().map_err(|e| format!("this program's own path: {e}"))?;
    let error = std::process::Command::new(program).args(std::env::args_os().skip(1)).env(name, value).exec();
    Err(format!("starting anew with memory on demand: {error}"))
}

#[cfg(not(unix))]
fn take_memory_on_demand() -> Result<(), String> {
    Ok(())
}

fn serve(ram_mib: Option<u64>) -> ExitCode {
    if ram_mib.is_some()
        && let Err(error) = take_memory_on_demand()
    {
        eprintln!("{error}");
        return ExitCode::from(2);
    }
    if let Err(error) = deepmarket_sandbox::limit_self(ram_mib).and_then(|()| deepmarket_trainer::confine()) {
        return refuse(&error);
    }
    let (from, to) = (io::stdin().lock(), io::stdout().lock());
    match deepmarket_trainer::serve(&mut io::BufReader::with_capacity(1 << 16, from), &mut io::BufWriter::new(to)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the pipe to the worker broke: {error}");
            ExitCode::from(2)
        }
    }
}

fn refuse(error: &deepmarket_sandbox::SandboxError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(2)
}
