mod add;
mod get;

pub use add::add;

use crate::{args::Data, error::Outcome, output, settings::Settings};

pub async fn run(settings: &Settings, verb: Data) -> Outcome {
    match verb {
        Data::Add(arguments) => add::run(settings, *arguments).await,
        Data::Generate { kind, name, samples, seed, length } => add::generate(settings, kind, &name, samples, seed, length).await,
        Data::Get { dataset, out } => get::run(settings, &dataset, &out).await,
        Data::Ls => {
            let all = settings.datasets().read()?;
            settings.output.show(&all, || {
                let rows = all.iter().map(|(name, d)| {
                    let splits: Vec<String> = d.splits.iter().map(|(name, samples)| format!("{name} {samples}")).collect();
                    vec![name.clone(), splits.join(", "), output::bytes(d.bytes), d.manifest.to_string()]
                });
                output::table(&["name", "samples", "size", "manifest"], &[2], rows)
            })
        }
    }
}
