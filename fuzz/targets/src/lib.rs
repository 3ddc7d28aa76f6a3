//! Fuzz targets: one for each parser of bytes from outside.
//!
//! ```text
//! fuzz/corpus/TARGET/* ──▶ tests/replay.rs   every seed and some thousand random changes of them, in the ordinary test suite
//!                      └─▶ fuzz/src/main.rs  libFuzzer, guided by coverage: `make fuzz`
//! ```
//!
//! A target takes any bytes, gives them to a parser, and panics where the parser breaks a promise: it never panics; what it
//! accepts passes its own check; what it decodes is encoded to the same bytes (or, where a value has several spellings, to
//! bytes that are read as the same value); and it never takes more memory than its target's limit.
//!
//! Nothing here opens a socket or starts a process; targets that read files make them in the folder for temporary files.

mod api;
mod chain;
mod check;
mod data;
#[cfg(feature = "heavy")]
mod engine;
mod job;
pub mod memory;
mod net;
#[cfg(feature = "heavy")]
mod trainer;
mod wallet;

/// One target.
pub struct Target {
    /// Its name: the corpus's folder, and what `FUZZ_TARGET` says.
    pub name: &'static str,
    /// The most memory that one input may take, in MiB.
    pub memory_mib: usize,
    body: fn(&[u8]),
}

impl Target {
    const fn new(name: &'static str, memory_mib: usize, body: fn(&[u8])) -> Target {
        Target { name, memory_mib, body }
    }

    /// Gives the target some bytes. Panics where a promise is broken. Memory is seen where the process allocates by
    /// [`memory::Counting`].
    pub fn run(&self, data: &[u8]) {
        let peak = memory::peak_of(|| (self.body)(data));
        assert!(peak <= self.memory_mib << 20, "{}: {} bytes made it take {peak} bytes of memory", self.name, data.len());
    }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target::new("transaction", 16, chain::transaction),
    Target::new("block", 32, chain::block),
    Target::new("identifier", 16, chain::identifier),
    Target::new("genesis", 32, chain::genesis),
    Target::new("spec_toml", 32, job::spec_toml),
    Target::new("spec_bytes", 32, job::spec_bytes),
    Target::new("manifest", 64, job::manifest),
    Target::new("result", 64, job::result),
    Target::new("tensor_file", 64, job::tensor_file),
    Target::new("pipe", 32, job::pipe),
    Target::new("frame", 32, net::frame),
    Target::new("message", 16, net::message),
    Target::new("blob", 32, net::blob),
    Target::new("address", 16, net::address),
    Target::new("rest_body", 32, api::rest_body),
    Target::new("rest_answer", 32, api::rest_answer),
    Target::new("wallet", 16, wallet::wallet),
    Target::new("arrays", 64, data::arrays),
    Target::new("table", 128, data::table),
    Target::new("images", 2048, data::images),
    Target::new("idx", 128, data::idx),
    #[cfg(feature = "heavy")]
    Target::new("engine", 32, engine::engine),
    #[cfg(feature = "heavy")]
    Target::new("trainer", 32, trainer::trainer),
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
