//! What a malicious program tries in the trainer's place.
#![allow(unsafe_code)] // An attacker isn't held to our lints.

use std::{
    fs,
    hint::black_box,
    io::{self, Write as _},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::{UnixDatagram, UnixStream},
    path::{Path, PathBuf},
    process::{self, Command},
    thread,
    time::Duration,
};

use deepmarket_job::protocol::{Reply, Request, read_frame, write_frame};
use deepmarket_types::FailureReason;
use deepmarket_worker::{Means, TrainerProcess};

/// The attack that a program's name says.
pub fn of(program: &Path) -> Option<String> {
    Some(program.file_name()?.to_str()?.strip_prefix("attack-")?.to_owned())
}

/// An attempt and what came of it.
type Attempt = (&'static str, io::Result<()>);

pub fn run(attack: String, this: &Path) {
    if attack == "agent" {
        return agent(this);
    }
    // A trainer is asked something before it does something.
    let mut input = io::stdin().lock();
    let Ok(Some(_)) = read_frame::<Request>(&mut input) else { return };
    let folder = this.parent().unwrap_or(this);
    let attempts = match attack.as_str() {
        "sockets" => sockets(folder),
        "files" => files(folder),
        "writes" => writes(folder),
        "forks" => forks(this),
        "processes" => processes(),
        "limits" => limits(),
        "threads" => return threads(),
        "spin" => spin(),
        "busy" => busy(),
        "heap" => heap(),
        "slowly" => slowly(),
        "shared" => shared(),
        "stacks" => stacks(),
        other => panic!("there is no attack named {other}"),
    };
    let told: Vec<String> = attempts
        .into_iter()
        .map(|(what, result)| match result {
            Ok(()) => format!("{what} DONE"),
            Err(error) => format!("{what} refused ({error})"),
        })
        .collect();
    tell(told.join("; "));
}

fn tell(message: String) {
    write_frame(&mut io::stdout().lock(), &Reply::Failed { reason: FailureReason::TrainerCrashed, message }).ok();
}

fn sockets(folder: &Path) -> Vec<Attempt> {
    // It may know where to call: it couldn't even read it here.
    let addresses = fs::read_to_string(folder.join("addresses")).unwrap_or_else(|_| "127.0.0.1:9 127.0.0.1:9".into());
    let (tcp, udp) = addresses.split_once(' ').unwrap_or(("127.0.0.1:9", "127.0.0.1:9"));
    let sent = || UdpSocket::bind("0.0.0.0:0")?.send_to(b"secret", udp).map(|_| ());
    vec![
        ("tcp", TcpStream::connect(tcp).map(|_| ())),
        ("tcp listener", TcpListener::bind("0.0.0.0:0").map(|_| ())),
        ("tcp over IPv6", TcpListener::bind("[::]:0").map(|_| ())),
        ("udp", sent()),
        ("unix", UnixStream::connect(folder.join("socket")).map(|_| ())),
        ("unix datagram", UnixDatagram::unbound().map(|_| ())),
        ("unix pair", UnixStream::pair().map(|_| ())),
        ("raw", call(libc::SYS_socket, [libc::AF_PACKET as usize, libc::SOCK_RAW as usize, 0, 0])),
        ("netlink", call(libc::SYS_socket, [libc::AF_NETLINK as usize, libc::SOCK_RAW as usize, 0, 0])),
        ("io_uring", call(libc::SYS_io_uring_setup, [8, 0, 0, 0])),
    ]
}

fn files(folder: &Path) -> Vec<Attempt> {
    let read = |path: &Path| fs::read(path).map(|_| ());
    let list = |path: &str| fs::read_dir(path).map(|_| ());
    vec![
        ("the machine's key", read(&folder.join("key.json"))),
        (
            "its key by way of /proc",
            read(&Path::new("/proc/self/root").join(folder.join("key.json").strip_prefix("/").unwrap_or(folder))),
        ),
        ("passwords", read(Path::new("/etc/passwd"))),
        ("the machine's id", read(Path::new("/etc/machine-id"))),
        ("the root folder", list("/")),
        ("home folders", list("/root")),
        ("temporary files", list("/tmp")),
        ("the list of processes", list("/proc")),
        ("its environment", read(Path::new("/proc/self/environ"))),
        ("the agent's command line", read(&PathBuf::from(format!("/proc/{}/cmdline", std::os::unix::process::parent_id())))),
        ("connections", read(Path::new("/proc/self/net/tcp"))),
        ("devices", read(Path::new("/dev/urandom"))),
        ("the terminal", read(Path::new("/dev/tty"))),
    ]
}

fn writes(folder: &Path) -> Vec<Attempt> {
    let elsewhere = std::env::temp_dir().join(format!("deepmarket-hostile-{}", std::os::unix::process::parent_id()));
    let key = folder.join("key.json");
    let append = |path: &Path| fs::OpenOptions::new().append(true).open(path)?.write_all(b"x");
    vec![
        ("a file in its folder", fs::write(folder.join("mine"), "x")),
        ("a file elsewhere", fs::write(elsewhere, "x")),
        ("into the key", append(&key)),
        ("over the key", fs::write(&key, "x")),
        ("the key's end", fs::remove_file(&key)),
        ("the key's name", fs::rename(&key, folder.join("mine"))),
        ("the key's rights", fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o666))),
        ("a folder", fs::create_dir(folder.join("mine"))),
        ("a link", std::os::unix::fs::symlink("/etc/passwd", folder.join("mine"))),
        ("a hard link", fs::hard_link(&key, folder.join("mine"))),
        ("itself", append(&folder.join("attack-writes"))),
        ("a control group", append(Path::new("/sys/fs/cgroup/cgroup.procs"))),
        ("the kernel's settings", append(Path::new("/proc/sys/kernel/core_pattern"))),
        ("a nameless file", call(libc::SYS_memfd_create, [c"mine".as_ptr() as usize, 0, 0, 0])),
    ]
}

fn forks(this: &Path) -> Vec<Attempt> {
    let no_thread = libc::SIGCHLD as usize;
    // SAFETY: a child that came into being ends at once.
    let fork = || match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => process::exit(0),
        _ => Ok(()),
    };
    vec![
        ("fork", (0..1000).map(|_| fork()).find(Result::is_ok).unwrap_or_else(fork)),
        ("clone", call(libc::SYS_clone, [no_thread, 0, 0, 0])),
        ("a namespace", call(libc::SYS_clone, [no_thread | libc::CLONE_NEWUSER as usize, 0, 0, 0])),
        ("another namespace", call(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0, 0])),
        ("clone3", call(libc::SYS_clone3, [0, 0, 0, 0])),
        ("a shell", Command::new("/bin/sh").args(["-c", "true"]).status().map(|_| ())),
        ("itself again", Command::new(this).status().map(|_| ())),
        ("a program in its own place", Err(std::os::unix::process::CommandExt::exec(&mut Command::new("/bin/true")))),
    ]
}

fn processes() -> Vec<Attempt> {
    let agent = std::os::unix::process::parent_id() as usize;
    vec![
        ("a signal to the agent", call(libc::SYS_kill, [agent, 0, 0, 0])),
        ("a signal to all", call(libc::SYS_kill, [usize::MAX, 0, 0, 0])),
        ("a signal to a thread", call(libc::SYS_tkill, [agent, 0, 0, 0])),
        ("the agent's memory", call(libc::SYS_ptrace, [libc::PTRACE_ATTACH as usize, agent, 0, 0])),
        ("a piece of it", call(libc::SYS_process_vm_readv, [agent, 0, 0, 0])),
        ("a handle of it", call(libc::SYS_pidfd_open, [agent, 0, 0, 0])),
        ("its limits", call(libc::SYS_prlimit64, [agent, libc::RLIMIT_NOFILE as usize, 0, 0])),
        ("its keys", call(libc::SYS_keyctl, [0, 0, 0, 0])),
        ("a kernel program", call(libc::SYS_bpf, [0, 0, 0, 0])),
        ("counters", call(libc::SYS_perf_event_open, [0, 0, 0, 0])),
        ("a mount", call(libc::SYS_mount, [0, 0, 0, 0])),
        ("page faults", call(libc::SYS_userfaultfd, [0, 0, 0, 0])),
    ]
}

fn limits() -> Vec<Attempt> {
    let more = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    let limit = |resource| call(libc::SYS_prlimit64, [0, resource as usize, &raw const more as usize, 0]);
    let all_cores = [u64::MAX; 16];
    vec![
        ("more data", limit(libc::RLIMIT_DATA)),
        ("more address space", limit(libc::RLIMIT_AS)),
        ("more processes", limit(libc::RLIMIT_NPROC)),
        ("longer files", limit(libc::RLIMIT_FSIZE)),
        ("a core dump", limit(libc::RLIMIT_CORE)),
        ("more cores", call(libc::SYS_sched_setaffinity, [0, 128, all_cores.as_ptr() as usize, 0])),
        ("a higher priority", call(libc::SYS_setpriority, [0, 0, (-20_isize).cast_unsigned(), 0])),
        ("a life of its own", call(libc::SYS_prctl, [libc::PR_SET_PDEATHSIG as usize, 0, 0, 0])),
        ("another group", call(libc::SYS_setpgid, [0, 0, 0, 0])),
        ("a session", call(libc::SYS_setsid, [0, 0, 0, 0])),
        ("another user", call(libc::SYS_setuid, [0, 0, 0, 0])),
        ("capabilities", call(libc::SYS_capset, [0, 0, 0, 0])),
        ("shared memory", call(libc::SYS_shmget, [0, 1 << 20, 0, 0])),
        ("another root", call(libc::SYS_chroot, [c"/".as_ptr() as usize, 0, 0, 0])),
    ]
}

/// A system call.
fn call(number: libc::c_long, arguments: [usize; 4]) -> io::Result<()> {
    let [a, b, c, d] = arguments;
    // SAFETY: addresses among the arguments are of things that live until it returns, or null.
    match unsafe { libc::syscall(number, a, b, c, d, 0_usize) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// As many threads as it gets, up to 10,000.
fn threads() {
    let sleeping = || thread::Builder::new().stack_size(16 << 10).spawn(|| thread::sleep(Duration::from_secs(60)));
    let mut count = 0;
    while count < 10_000 && sleeping().is_ok() {
        count += 1;
    }
    tell(format!("{count} threads"));
}

fn spin() -> ! {
    loop {
        black_box(0);
    }
}

/// Wants four cores.
fn busy() -> Vec<Attempt> {
    (0..3).for_each(|_| drop(thread::Builder::new().spawn(|| spin())));
    spin()
}

/// Takes memory, and uses it.
fn heap() -> Vec<Attempt> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for _ in 0..8192 {
        all.push(black_box(vec![1; 1 << 20]));
    }
    vec![("eight gibibytes", Ok(()))]
}

/// The same, slowly, so that it is seen.
fn slowly() -> Vec<Attempt> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for _ in 0..2048 {
        all.push(black_box(vec![1; 1 << 20]));
        thread::sleep(Duration::from_millis(4));
    }
    vec![("two gibibytes", Ok(()))]
}

/// Takes memory that isn't counted as its data.
fn shared() -> Vec<Attempt> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping somewhere, of which only what was mapped is touched.
    let map = || unsafe {
        let start = libc::mmap(std::ptr::null_mut(), 64 << 20, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        std::ptr::write_bytes(start.cast::<u8>(), 1, 64 << 20);
        Ok(())
    };
    let maps = || (0..64).try_for_each(|_| map());
    vec![
        ("shared memory", maps()),
        ("once more", maps()),
        ("a nameless file", call(libc::SYS_memfd_create, [c"m".as_ptr() as usize, 0, 0, 0])),
    ]
}

/// Takes memory as stacks.
fn stacks() -> Vec<Attempt> {
    fn deep(left: u32) -> u8 {
        let frame = black_box([1_u8; 1 << 16]);
        if left == 0 { frame[0] } else { deep(left - 1).wrapping_add(black_box(frame)[7]) }
    }
    let waits = || {
        thread::Builder::new().stack_size(256 << 20).spawn(|| {
            black_box(deep(3000));
            thread::sleep(Duration::from_secs(600));
        })
    };
    let started: Vec<Attempt> = (0..16).map(|_| ("a stack", waits().map(|_| ()))).collect();
    thread::sleep(Duration::from_secs(4));
    started
}

/// An agent that starts a spinning trainer, says its process id, and waits for its own death.
fn agent(this: &Path) {
    let program = this.with_file_name("attack-spin");
    fs::hard_link(this, &program).or_else(|_| fs::copy(this, &program).map(|_| ())).expect("the program in the trainer's place");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let trainer = TrainerProcess::spawn(&program, &super::lent::one_core(Means::Best)).expect("it starts");
        println!("{}", trainer.pid().expect("it runs"));
        let mut trainer = trainer;
        trainer.ask(&Request::Evaluate, Duration::from_secs(600)).await.ok();
    });
}
