//! What this computer keeps of its own machine, in the home of an account's compute node. The command line's program writes the
//! key and the measurement, PLUTO the rest.

use std::{
    fs,
    path::{Path, PathBuf},
};

use deepmarket_types::{AccountId, MachineId, Offer, SecretKey};
use deepmarket_wallet::{
    files::write_private,
    invite_code::InviteCode,
    keys,
    this_computer::{self, Measurement},
};
use serde::{Deserialize, Serialize};

use crate::{
    error::{Answer, io},
    home::{Home, read_json, write_json},
};

pub struct Folder {
    home: PathBuf,
    name: String,
}

/// `paused.json`: a pause that was asked for.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Paused {
    /// When it ends by itself; 0 where it doesn't.
    pub until: u64,
    /// What is offered again then.
    pub offer: Offer,
}

impl Folder {
    pub fn of(home: &Home, account: AccountId) -> Folder {
        Folder { home: home.node(account), name: this_computer::name() }
    }

    /// The home of the command line's program.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.join("machines").join(&self.name).join(name)
    }

    /// The machine's key, once it has one.
    pub fn key(&self) -> Option<SecretKey> {
        keys::read(&self.file("key.json")).ok()
    }

    pub fn machine(&self) -> Option<MachineId> {
        self.key().map(|key| MachineId::from_key(&key.public()))
    }

    pub fn measurement(&self) -> Option<Measurement> {
        read_json(&self.file("config.json"))
    }

    /// The code that this machine joined with: with it, it serves on.
    pub fn code(&self) -> Option<String> {
        fs::read_to_string(self.home.join("code")).ok()
    }

    pub fn set_code(&self, code: Option<&InviteCode>) -> Answer {
        let path = self.home.join("code");
        match code {
            Some(code) => Ok(write_private(&path, code.to_string().as_bytes())?),
            None => remove(&path),
        }
    }

    pub fn paused(&self) -> Option<Paused> {
        read_json(&self.home.join("paused.json"))
    }

    pub fn set_paused(&self, paused: Option<&Paused>) -> Answer {
        let path = self.home.join("paused.json");
        match paused {
            Some(paused) => write_json(&path, paused),
            None => remove(&path),
        }
    }

    /// What was offered last.
    pub fn offer(&self) -> Option<Offer> {
        read_json(&self.home.join("offer.json"))
    }

    pub fn set_offer(&self, offer: &Offer) -> Answer {
        write_json(&self.home.join("offer.json"), offer)
    }
}

fn remove(path: &Path) -> Answer {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path.display())(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_and_the_last_offer_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path().to_owned()).unwrap();
        let own = Folder::of(&home, AccountId([1; 20]));
        assert!(own.paused().is_none() && own.offer().is_none() && own.code().is_none() && own.machine().is_none());
        let offer = crate::convert::offer_of(&crate::view::Offer {
            resources: crate::view::Resources { cores: 1, gpus: 0, ram_mib: 512, disk_mib: 512 },
            from_minute: None,
            to_minute: None,
            weekdays: 127,
            until: None,
            min_core_hour: "0".into(),
            min_gpu_hour: "0".into(),
            min_ram_gib_hour: "0".into(),
            min_disk_gib_hour: "0".into(),
            ends_leases: false,
        });
        let paused = Paused { until: 7, offer: offer.unwrap() };
        own.set_paused(Some(&paused)).unwrap();
        own.set_offer(&paused.offer).unwrap();
        assert_eq!((own.paused().unwrap(), own.offer().unwrap()), (Paused { ..paused }, paused.offer));
        own.set_paused(None).unwrap();
        own.set_paused(None).unwrap();
        assert!(own.paused().is_none());
        let code = InviteCode::generate();
        own.set_code(Some(&code)).unwrap();
        assert_eq!(own.code().unwrap(), code.to_string());
    }
}
