//! Who lends.

use deepmarket_types::{AccountId, Availability, ChangeMode, Hash, MachineConfig, Offer, PublicKey, Resources, UnitPrices};

use super::cheat::{Habit, Kind};

/// A lender and his machines.
#[derive(Clone, Debug)]
pub struct Lender {
    /// His key.
    pub key: PublicKey,
    /// His account.
    pub account: AccountId,
    /// His machines' keys.
    pub machine_keys: Vec<PublicKey>,
    /// How he cheats; none: he doesn't.
    pub kind: Option<Kind>,
    /// When he does.
    pub habit: Habit,
    /// Windows that his machines worked.
    pub windows: u32,
    /// He lends no more.
    pub is_gone: bool,
}

fn key(kind: u8, number: u32, index: u32) -> PublicKey {
    let mut bytes = [kind; 32];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes[4..8].copy_from_slice(&index.to_le_bytes());
    PublicKey(bytes)
}

impl Lender {
    /// The lender of a number.
    pub fn new(number: u32, kind: Option<Kind>, habit: Habit, machines: u32) -> Lender {
        let own = key(1, number, 0);
        Lender {
            key: own,
            account: AccountId::from_key(&own),
            machine_keys: (0..machines).map(|index| key(2, number, index)).collect(),
            kind,
            habit,
            windows: 0,
            is_gone: false,
        }
    }
}

/// Two cores: two that work, or one and an audit.
fn resources() -> Resources {
    Resources { cores: 2, gpus: 0, ram_mib: 4096, disk_mib: 4096 }
}

/// What a machine is.
pub fn machine_config(number: u32, index: u32) -> MachineConfig {
    let text = |text: &str| text.to_owned();
    MachineConfig {
        name: text("machine"),
        platform: text("simulated"),
        cpu: text("simulated"),
        gpu: String::new(),
        host: Hash::of(&[number.to_le_bytes(), index.to_le_bytes()].concat()),
        resources: resources(),
        speed: 1_000,
        trainer: text("zoo"),
    }
}

/// All of it, always, at any price.
pub fn offer() -> Offer {
    Offer {
        resources: resources(),
        availability: Availability::default(),
        minimum: UnitPrices::default(),
        at_close: ChangeMode::AfterLease,
    }
}
