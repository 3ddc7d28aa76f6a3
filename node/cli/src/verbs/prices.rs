use crate::{error::Outcome, output, settings::Settings};

pub async fn run(settings: &Settings) -> Outcome {
    let view = settings.client()?.prices().await?;
    settings.output.show(&view, || {
        let rows = view.prices.slots.iter().enumerate().map(|(slot, prices)| {
            let marker = if slot == usize::from(view.current_slot) { " (now)" } else { "" };
            let name = view.slot_names.get(slot).cloned().unwrap_or_default();
            let units = [prices.core_hour, prices.gpu_hour, prices.ram_gib_hour, prices.disk_gib_hour];
            std::iter::once(format!("{name}{marker}")).chain(units.into_iter().map(output::aligned)).collect()
        });
        let header = ["slot", "CPU core", "GPU", "GiB RAM", "GiB disk"];
        format!("credits per hour\n{}", output::table(&header, &[1, 2, 3, 4], rows))
    })
}
