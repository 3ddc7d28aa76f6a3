//! This computer: what it is called, what was measured of it, and what runs on it.

use deepmarket_types::{MachineConfig, TimeMs};
use serde::{Deserialize, Serialize};

/// `config.json` in a machine's folder: what was measured last.
#[derive(Serialize, Deserialize)]
pub struct Measurement {
    /// When.
    pub measured: TimeMs,
    /// What.
    pub config: MachineConfig,
}

/// What the system calls itself, in the characters that a machine's name and a folder may have.
pub fn name() -> String {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    let short = name.split('.').next().unwrap_or_default();
    let name: String = short.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).take(40).collect();
    if name.is_empty() { "this-machine".into() } else { name }
}

/// Is a gateway on it, by its address?
pub fn has(gateway: &str) -> bool {
    let host = gateway.split_once("://").map_or(gateway, |(_, rest)| rest);
    host.starts_with("127.") || host.starts_with("[::1]") || host == "localhost" || host.starts_with("localhost:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_a_name_that_a_folder_can_have() {
        let name = name();
        assert!(!name.is_empty() && name.len() <= 40 && !name.contains(['/', '.', ' ']), "{name}");
    }

    #[test]
    fn its_own_addresses_are_known() {
        for gateway in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "localhost"] {
            assert!(has(gateway), "{gateway}");
        }
        for gateway in ["http://10.0.0.1:1", "http://localhost.example.edu:80"] {
            assert!(!has(gateway), "{gateway}");
        }
    }
}
