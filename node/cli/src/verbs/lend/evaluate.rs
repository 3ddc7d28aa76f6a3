use std::path::PathBuf;

use deepmarket_api::{EvaluationRequest, EvaluationView};
use deepmarket_types::{Credits, MachineConfig, Offer};
use serde::Serialize;

use super::{
    machine,
    offer::{self, Offering},
    verify,
};
use crate::{
    args::Evaluate,
    error::{Failure, Outcome},
    output::{self, aligned},
    settings::Settings,
    verbs::market,
    when::MarketClock,
};

/// The name that a machine has where none is given.
const THIS_MACHINE: &str = "this-machine";

/// What `lend evaluate` prints with `--json`.
#[derive(Serialize)]
struct Evaluated {
    config: MachineConfig,
    offer: Offer,
    #[serde(flatten)]
    view: EvaluationView,
    /// Of all four slots, if all that is offered is used all the time.
    full: Credits,
    /// Of all four slots, at their usual utilisation.
    expected: Credits,
}

pub async fn run(settings: &Settings, args: &Evaluate) -> Outcome {
    let client = settings.client()?;
    let clock = market::clock(&client).await?;
    let offering = Offering::one_core().with(&args.offer, &clock)?;
    let config = config_of(settings, &args.machine, &clock).await?;
    let offer = offering.of(&config.resources)?;
    let view = client.evaluate(&EvaluationRequest { offer, config: Some(config.clone()) }).await?;
    if let Some(why) = &view.refused {
        return Err(Failure::user(format!("the market would refuse this offer: {why}")));
    }
    let full = sum(view.slots.iter().map(|slot| slot.full));
    let expected = sum(view.slots.iter().map(|slot| slot.expected));
    let evaluated = Evaluated { config, offer, view, full, expected };
    settings.output.show(&evaluated, || describe(&evaluated, &clock))?;
    settings.output.next("deepmarket lend start with the same flags lends this machine, lend change changes a lent one's offer");
    Ok(())
}

/// Saturates: a remote machine's offer may be as large as that says of itself.
fn sum(parts: impl Iterator<Item = Credits>) -> Credits {
    Credits::from_micro(parts.fold(0, |sum, part| sum.saturating_add(part.micro())))
}

/// The last measurement of this host's machine (it is measured now where there is none), or what the market knows of another.
async fn config_of(settings: &Settings, name: &str, clock: &MarketClock) -> Outcome<MachineConfig> {
    let is_here = |folder: &PathBuf| name == THIS_MACHINE || folder.exists();
    let Some(folder) = machine::folder(settings, name).ok().filter(is_here) else {
        return Ok(machine::find(settings, &settings.client()?, name).await?.config);
    };
    if let Some(last) = verify::last(&folder)? {
        let when = clock.show(last.measured);
        settings.output.say(format!("'{name}' as it was measured at {when} (again: deepmarket lend verify)"));
        return Ok(last.config);
    }
    settings.output.say("measuring this machine");
    verify::measure(&folder, name).await
}

fn describe(evaluated: &Evaluated, clock: &MarketClock) -> String {
    let Evaluated { config, offer, view, full, expected } = evaluated;
    let rows = view.slots.iter().enumerate().map(|(index, slot)| {
        let now = if index == 0 { " (now)" } else { "" };
        vec![
            format!("{} {}{now}", clock.date(slot.begins), market::slot_name(slot.slot)),
            if slot.open_ms == 0 { "closed".to_owned() } else { output::duration(slot.open_ms) },
            aligned(slot.prices.core_hour),
            if slot.reaches_minimum { "yes" } else { "no" }.to_owned(),
            output::permille(slot.utilisation_permille),
            aligned(slot.full),
            aligned(slot.expected),
        ]
    });
    let total = ["total", "", "", "", "", &aligned(*full), &aligned(*expected)].map(str::to_owned).to_vec();
    let header = ["slot", "open for", "core-hour", "reaches minimum", "usual use", "if fully used", "expected"];
    let mut text = format!(
        "'{}' has {}\noffer: {}\ncredits; market's clock: {}, now {}\n{}",
        config.name,
        offer::resources(&config.resources),
        offer::sentence(offer, clock),
        clock.zone(),
        clock.show(clock.now),
        output::table(&header, &[1, 2, 4, 5, 6], rows.chain([total]))
    );
    if view.slots.iter().all(|slot| slot.open_ms == 0) {
        text += "\nthe offer's hours don't begin within these four slots";
    } else if !view.slots.iter().any(|slot| slot.reaches_minimum && slot.open_ms > 0) {
        text += "\nno price of these slots reaches the minimum: the machine would get no work at today's prices";
    }
    text
}

#[cfg(test)]
mod tests {
    use deepmarket_api::SlotEarningView;
    use deepmarket_types::{Hash, Resources, SlotClock, TimeMs, UnitPrices};

    use super::*;

    #[test]
    fn four_slots_and_their_sum_are_shown() {
        let slots = SlotClock { slot_ms: 6 * 3_600_000, utc_offset_ms: -8 * 3_600_000 };
        let clock = MarketClock { slots, now: TimeMs(1_795_613_460_000) };
        let resources = Resources { cores: 2, gpus: 0, ram_mib: 4096, disk_mib: 4096 };
        let config = MachineConfig {
            name: "lab".into(),
            platform: "linux x86_64".into(),
            cpu: "cpu".into(),
            gpu: String::new(),
            host: Hash::of(b"host"),
            resources,
            speed: 1_000,
            trainer: "0".into(),
        };
        let offer = Offering::one_core().of(&resources).unwrap();
        let slot = |slot: u8, begins, reaches_minimum| SlotEarningView {
            slot,
            begins: TimeMs(begins),
            open_ms: 3_600_000,
            prices: UnitPrices { core_hour: Credits::from_micro(500_000), ..UnitPrices::default() },
            reaches_minimum,
            full: Credits::from_micro(500_000),
            utilisation_permille: 250,
            expected: Credits::from_micro(125_000),
        };
        let view =
            EvaluationView { refused: None, slots: vec![slot(0, 1_795_613_460_000, true), slot(1, 1_795_615_200_000, false)] };
        let mut evaluated =
            Evaluated { config, offer, view, full: Credits::from_credits(1), expected: Credits::from_micro(250_000) };
        let text = describe(&evaluated, &clock);
        for part in [
            "2026-11-25 00-06 (now)",
            "2026-11-25 06-12",
            "25.0 %",
            "0.125000",
            "1.000000",
            "0.250000",
            "UTC-08:00, now 2026-11-25 05:31",
        ] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
        assert!(!text.contains("no price"));
        evaluated.view.slots[0].reaches_minimum = false;
        assert!(describe(&evaluated, &clock).contains("no price of these slots reaches the minimum"));
        evaluated.view.slots.iter_mut().for_each(|slot| slot.open_ms = 0);
        assert!(describe(&evaluated, &clock).contains("don't begin"));
    }
}
