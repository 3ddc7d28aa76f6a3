//! What a trainer gives up itself, when it has started.

use rustix::{
    fs::{FileType, Stat, fstat},
    process::{Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setrlimit},
};

use super::{files, syscalls};
use crate::{SandboxError, data_bytes};

/// This thread, and those that it starts, die with their parent, gain no privileges, and from now on open no file and no socket,
/// start no thread and no program. Standard input and output stay.
pub fn confine_self() -> Result<(), SandboxError> {
    let parent = getppid();
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|e| SandboxError::new("parent death signal", e))?;
    if parent.is_none() || getppid() != parent {
        return Err(SandboxError::new("parent death signal", "its parent ended before it began"));
    }
    files::close_all()?;
    let filter = syscalls::computing()?;
    seccompiler::apply_filter(&filter).map_err(|e| SandboxError::new("seccomp", e))
}

/// This process writes no file and no core dump, opens almost no file, and has at most so much memory; an allocation beyond it
/// fails. What is stricter already stays.
pub fn limit_self(ram_mib: Option<u64>) -> Result<(), SandboxError> {
    // Nothing is written to files, except where a person sends what this prints into one.
    let file_bytes = (!prints_into_file()).then_some(0);
    for (resource, limit) in [(Resource::Core, Some(0)), (Resource::Fsize, file_bytes), (Resource::Data, ram_mib.map(data_bytes))]
    {
        let Some(limit) = limit else { continue };
        let limit = getrlimit(resource).maximum.map_or(limit, |maximum| maximum.min(limit));
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        setrlimit(resource, limit).map_err(|e| SandboxError::new("resource limits", e))?;
    }
    Ok(())
}

/// Is standard output or error a file?
fn prints_into_file() -> bool {
    let is_file =
        |stat: rustix::io::Result<Stat>| stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile);
    is_file(fstat(std::io::stdout())) || is_file(fstat(std::io::stderr()))
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::ErrorKind, net::UdpSocket, process::Command, thread};

    use super::*;

    #[test]
    fn a_confined_thread_opens_no_socket_and_no_file_and_starts_nothing() {
        // It holds for the thread that asks for it.
        let confined = thread::spawn(|| {
            confine_self().unwrap();
            let socket = UdpSocket::bind("127.0.0.1:0").map(|_| ());
            let file = File::open("/proc/self/status").map(|_| ());
            (socket, file, Command::new("true").status().map(|_| ()), thread::Builder::new().spawn(|| ()).map(|_| ()))
        });
        let (socket, file, program, thread) = confined.join().unwrap();
        for result in [socket, file, program, thread] {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
        UdpSocket::bind("127.0.0.1:0").expect("other threads go on");
    }
}
