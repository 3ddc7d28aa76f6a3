//! From what people wish to what the chain is told.

use std::path::Path;

use deepmarket_api::Client;
use deepmarket_types::{
    Action, Availability, ChangeMode, MachineConfig, MachineId, Offer, Resources, SecretKey, UnitPrices, machine_proof,
};
use deepmarket_wallet::keys;

use super::{machine, verify};
use crate::{
    args::OfferFlags,
    error::{Failure, Outcome},
    output,
    share::Share,
    when::{self, MarketClock},
};

/// What is wished to be offered of a machine: an offer whose amounts may be shares of a machine that isn't measured yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offering {
    pub cores: Share,
    pub ram_mib: Share,
    pub disk_mib: Share,
    pub gpus: Share,
    pub availability: Availability,
    pub minimum: UnitPrices,
    pub at_close: ChangeMode,
}

impl Offering {
    /// One core and 1 GiB, always, at any price: where nothing else is said, and what the local market lends of each machine.
    pub fn one_core() -> Offering {
        Offering {
            cores: Share::Amount(1),
            ram_mib: Share::Amount(1024),
            disk_mib: Share::Amount(1024),
            gpus: Share::Amount(0),
            availability: Availability::default(),
            minimum: UnitPrices::default(),
            at_close: ChangeMode::default(),
        }
    }

    /// What is offered now.
    pub fn present(offer: &Offer) -> Offering {
        let Resources { cores, gpus, ram_mib, disk_mib } = offer.resources;
        Offering {
            cores: Share::Amount(cores.into()),
            ram_mib: Share::Amount(ram_mib),
            disk_mib: Share::Amount(disk_mib),
            gpus: Share::Amount(gpus.into()),
            availability: offer.availability,
            minimum: offer.minimum,
            at_close: offer.at_close,
        }
    }

    /// The same with what the flags say.
    pub fn with(self, flags: &OfferFlags, clock: &MarketClock) -> Outcome<Offering> {
        let until = match flags.until {
            Some(until) => until.moment(clock)?,
            None => self.availability.until,
        };
        Ok(Offering {
            cores: flags.cores.unwrap_or(self.cores),
            ram_mib: flags.ram_mib.unwrap_or(self.ram_mib),
            disk_mib: flags.disk_mib.unwrap_or(self.disk_mib),
            gpus: flags.gpus.unwrap_or(self.gpus),
            availability: Availability {
                hours: flags.hours.map_or(self.availability.hours, |hours| hours.0),
                weekdays: flags.days.map_or(self.availability.weekdays, |days| days.0),
                until,
            },
            minimum: UnitPrices {
                core_hour: flags.min_price.unwrap_or(self.minimum.core_hour),
                gpu_hour: flags.min_gpu_price.unwrap_or(self.minimum.gpu_hour),
                ram_gib_hour: flags.min_ram_price.unwrap_or(self.minimum.ram_gib_hour),
                disk_gib_hour: flags.min_disk_price.unwrap_or(self.minimum.disk_gib_hour),
            },
            at_close: flags.when_closed.map_or(self.at_close, ChangeMode::from),
        })
    }

    /// The offer for a measured machine, which must have what is offered.
    pub fn of(&self, has: &Resources) -> Outcome<Offer> {
        let amounts = [
            ("cores", "--cores", self.cores, u64::from(has.cores)),
            ("MiB of memory", "--ram-mib", self.ram_mib, has.ram_mib),
            ("MiB of disk", "--disk-mib", self.disk_mib, has.disk_mib),
            ("GPUs", "--gpus", self.gpus, u64::from(has.gpus)),
        ];
        for (what, flag, share, has) in amounts {
            if share.of(has) > has {
                let message = format!("{} {what} should be lent, but the machine has {has}", share.of(has));
                let hint = format!("lend at most that ({flag} {has}); if the machine has changed: deepmarket lend verify");
                return Err(Failure::user(message).with_hint(hint).with_code(2033));
            }
        }
        let [cores, ram_mib, disk_mib, gpus] = amounts.map(|(.., share, has)| share.of(has));
        self.offer_of(cores, ram_mib, disk_mib, gpus)
    }

    /// The offer for a machine that nobody has measured yet: only amounts can be offered of it.
    pub fn unmeasured(&self) -> Outcome<Offer> {
        let amounts =
            [("--cores", self.cores), ("--ram-mib", self.ram_mib), ("--disk-mib", self.disk_mib), ("--gpus", self.gpus)];
        if let Some((flag, share)) = amounts.iter().find(|(_, share)| matches!(share, Share::Percent(_))) {
            return Err(Failure::user(format!("{flag} {share}: a share of a machine that isn't known yet can't be offered"))
                .with_hint(
                    "name an amount, or invite without an offer and use `deepmarket lend change --machine ID` once it has joined",
                ));
        }
        let [cores, ram_mib, disk_mib, gpus] = amounts.map(|(_, share)| share.of(0));
        self.offer_of(cores, ram_mib, disk_mib, gpus)
    }

    fn offer_of(&self, cores: u64, ram_mib: u64, disk_mib: u64, gpus: u64) -> Outcome<Offer> {
        if cores == 0 {
            return Err(Failure::user("an offer needs at least one core").with_hint("lend one: --cores 1").with_code(2034));
        }
        let count = |amount: u64| u32::try_from(amount).map_err(|_| Failure::user(format!("{amount} is too many")));
        let resources = Resources { cores: count(cores)?, gpus: count(gpus)?, ram_mib, disk_mib };
        let Offering { availability, minimum, at_close, .. } = *self;
        Ok(Offer { resources, availability, minimum, at_close })
    }
}

/// A machine that is on offer.
#[derive(serde::Serialize)]
pub struct Lent {
    #[serde(rename = "machine")]
    pub id: MachineId,
    pub config: MachineConfig,
    pub offer: Offer,
}

/// Measures a machine, registers it for its owner and offers a part of it.
pub async fn offer(client: &Client, folder: &Path, name: &str, owner: &SecretKey, offering: Offering) -> Outcome<Lent> {
    let config = verify::measure(folder, name).await?;
    offer_measured(client, folder, config, owner, offering).await
}

/// Registers a measured machine for its owner and offers a part of it.
pub async fn offer_measured(
    client: &Client,
    folder: &Path,
    config: MachineConfig,
    owner: &SecretKey,
    offering: Offering,
) -> Outcome<Lent> {
    let offer = offering.of(&config.resources)?;
    let key = keys::read_or_make(&machine::key_path(folder))?;
    let id = MachineId::from_key(&key.public());
    let chain = client.status().await?.chain;
    let proof = machine_proof(&key, &chain, &owner.public(), &config);
    client.act(owner, Action::RegisterMachine { machine_key: key.public(), config: config.clone(), proof }).await?;
    client.act(owner, Action::Lend { machine: id, offer, mode: ChangeMode::AfterLease }).await?;
    Ok(Lent { id, config, offer })
}

/// `1 core, 1.0 GiB memory, 1.0 GiB disk`.
pub fn resources(resources: &Resources) -> String {
    let Resources { cores, gpus, ram_mib, disk_mib } = resources;
    let mib = |mib: u64| output::bytes(mib.saturating_mul(1024 * 1024));
    let plural = |count: u32, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut parts = vec![plural(*cores, "core"), format!("{} memory", mib(*ram_mib)), format!("{} disk", mib(*disk_mib))];
    if *gpus > 0 {
        parts.insert(1, plural(*gpus, "GPU"));
    }
    parts.join(", ")
}

/// `0.5 per core-hour`; `any price`.
pub fn minimum(minimum: &UnitPrices) -> String {
    let UnitPrices { core_hour, gpu_hour, ram_gib_hour, disk_gib_hour } = minimum;
    let units = [(core_hour, "core"), (gpu_hour, "GPU"), (ram_gib_hour, "GiB-memory"), (disk_gib_hour, "GiB-disk")];
    let set: Vec<String> =
        units.iter().filter(|(price, _)| !price.is_zero()).map(|(price, unit)| format!("{price} per {unit}-hour")).collect();
    if set.is_empty() { "any price".into() } else { format!("at least {}", set.join(", ")) }
}

/// An offer in one line.
pub fn sentence(offer: &Offer, clock: &MarketClock) -> String {
    let close = match (offer.at_close, offer.availability == Availability::default()) {
        (ChangeMode::AtOnce, false) => "; leases end with it",
        _ => "",
    };
    format!(
        "{}; {}{close}; {}",
        resources(&offer.resources),
        when::availability(&offer.availability, clock),
        minimum(&offer.minimum)
    )
}

#[cfg(test)]
mod tests {
    use deepmarket_types::{Credits, DailyHours, SlotClock, TimeMs, Weekdays};

    use super::*;
    use crate::{
        args::WhenClosed,
        share::count,
        when::{Days, Hours, Until},
    };

    const HAS: Resources = Resources { cores: 4, gpus: 1, ram_mib: 8000, disk_mib: 100_000 };

    fn clock() -> MarketClock {
        MarketClock { slots: SlotClock { slot_ms: 6 * 3_600_000, utc_offset_ms: 0 }, now: TimeMs(1_795_613_460_000) }
    }

    #[test]
    fn flags_change_what_they_name_and_leave_the_rest() {
        let flags = OfferFlags {
            cores: Some(Share::Percent(50)),
            hours: Some("18:00-08:00".parse::<Hours>().unwrap()),
            days: Some("mon-fri".parse::<Days>().unwrap()),
            until: Some("2026-12-24".parse::<Until>().unwrap()),
            min_price: Some(Credits::from_micro(500_000)),
            when_closed: Some(WhenClosed::AtOnce),
            ..OfferFlags::default()
        };
        let offer = Offering::one_core().with(&flags, &clock()).unwrap().of(&HAS).unwrap();
        assert_eq!(offer.resources, Resources { cores: 2, gpus: 0, ram_mib: 1024, disk_mib: 1024 });
        assert_eq!(offer.availability.hours, Some(DailyHours { from_minute: 1080, to_minute: 480 }));
        assert_eq!((offer.minimum.core_hour, offer.at_close), (Credits::from_micro(500_000), ChangeMode::AtOnce));
        assert_eq!(
            sentence(&offer, &clock()),
            "2 cores, 1.0 GiB memory, 1.0 GiB disk; 18:00-08:00 mon-fri until 2026-12-25 00:00; leases end with it; at least 0.5 per core-hour"
        );

        let again = OfferFlags {
            hours: Some(Hours(None)),
            days: Some(Days(Weekdays::ALL)),
            until: Some(Until::Never),
            min_price: Some(Credits::ZERO),
            ..OfferFlags::default()
        };
        let changed = Offering::present(&offer).with(&again, &clock()).unwrap().of(&HAS).unwrap();
        assert_eq!((changed.availability, changed.minimum), (Availability::default(), UnitPrices::default()));
        assert_eq!((changed.resources, changed.at_close), (offer.resources, ChangeMode::AtOnce));
        assert_eq!(sentence(&changed, &clock()), "2 cores, 1.0 GiB memory, 1.0 GiB disk; always; any price");
    }

    #[test]
    fn more_than_the_machine_has_is_refused_with_what_it_has() {
        for (flags, says) in [
            (
                OfferFlags { cores: Some(Share::Amount(5)), ..OfferFlags::default() },
                "5 cores should be lent, but the machine has 4",
            ),
            (OfferFlags { ram_mib: Some(Share::Amount(8001)), ..OfferFlags::default() }, "8001 MiB of memory"),
            (OfferFlags { disk_mib: Some(Share::Amount(100_001)), ..OfferFlags::default() }, "100001 MiB of disk"),
            (
                OfferFlags { gpus: Some(Share::Amount(2)), ..OfferFlags::default() },
                "2 GPUs should be lent, but the machine has 1",
            ),
            (OfferFlags { cores: Some(Share::Amount(0)), ..OfferFlags::default() }, "at least one core"),
        ] {
            let error = Offering::one_core().with(&flags, &clock()).unwrap().of(&HAS).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn of_an_unknown_machine_only_amounts_can_be_offered() {
        assert_eq!(Offering::one_core().unmeasured().unwrap().resources.cores, 1);
        let flags = OfferFlags { cores: Some(count("50%").unwrap()), ..OfferFlags::default() };
        let error = Offering::one_core().with(&flags, &clock()).unwrap().unmeasured().unwrap_err().to_string();
        assert!(error.contains("--cores 50%") && error.contains("isn't known yet"), "{error}");
    }
}
