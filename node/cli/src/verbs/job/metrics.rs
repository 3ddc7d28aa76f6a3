use std::ops::Range;

use deepmarket_api::{Client, JobEvent, JobView, ProgressKind};
use deepmarket_job::{JobSpec, Kind, Schedule};
use deepmarket_types::{Event, JobId};
use deepmarket_wallet::jobs;
use futures::StreamExt as _;
use serde_json::json;

use super::{
    Known,
    record::{Batches, Canvas, Epoch, Fate, Point, Record, csv, times_table},
};
use crate::{
    error::{Failure, Outcome},
    output,
    processes::stop_signal,
    settings::Settings,
    verbs::follow,
};

pub async fn run(settings: &Settings, job: JobId, follow: bool, as_csv: bool) -> Outcome {
    let client = settings.client()?;
    let view = jobs::fetch(&client, job).await?;
    let mut known = super::known(&client, job).await?;
    let samples_of = samples_of(&client, &view, &known).await;
    let output = settings.output;
    let show = |view: &JobView, known: &Known| -> Outcome {
        let batches = known.record.batches(&samples_of);
        if as_csv {
            print!("{}", csv::whole(&known.record));
            return Ok(());
        }
        output.show(&values(&known.record, &batches), || describe(view, &known.record, &batches, output.canvas()))
    };
    if !follow {
        show(&view, &known)?;
        if !view.state.is_closed() {
            output.next(format!("deepmarket job metrics {job} --follow"));
        }
        return Ok(());
    }
    let stop = stop_signal(false)?;
    let mut stream = client.progress_stream(job);
    // What is known already comes first, also where it is printed as it comes.
    let so_far = known.record.by_time().into_iter().cloned().collect::<Vec<_>>();
    if as_csv {
        print!("{}", csv::whole(&known.record));
    } else {
        for report in &so_far {
            print_as_it_comes(report, output)?;
        }
    }
    let mut sight = follow::Sight::default();
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = stop.cancelled() => {
                output.next(format!("deepmarket job metrics {job} shows all of it"));
                return Ok(());
            }
        };
        match event {
            Some(Ok(JobEvent::Progress { entry, .. })) if known.record.add(entry.clone()) => {
                if !as_csv {
                    print_as_it_comes(&entry, output)?;
                } else if let Some(row) = csv::row(&entry, &known.record) {
                    println!("{row}");
                }
            }
            Some(Ok(JobEvent::State { status, .. })) => output.say(format!("{job} is {status}")),
            Some(Ok(JobEvent::Progress { .. } | JobEvent::Chain { .. })) => {}
            Some(Ok(JobEvent::End)) | None => break,
            Some(Err(error)) => {
                sight.fails(job, error, |words| output.say(words))?;
                continue;
            }
        }
        sight.is_back();
    }
    if !as_csv && !output.is_json() {
        show(&jobs::fetch(&client, job).await?, &known)?;
    }
    Ok(())
}

/// One line for each report with numbers.
fn print_as_it_comes(report: &deepmarket_api::Progress, output: output::Output) -> Outcome {
    let has_numbers =
        matches!(report.kind, ProgressKind::Round { .. } | ProgressKind::Epoch { .. } | ProgressKind::Trained { .. });
    if has_numbers && output.is_json() {
        println!("{}", serde_json::to_string(report).map_err(Failure::bug)?);
    } else if has_numbers {
        println!("{}", follow::line(report));
    }
    Ok(())
}

/// How many samples some rounds of a job use, by its schedule; nothing where that can't be known here.
async fn samples_of(client: &Client, view: &JobView, known: &Known) -> impl Fn(Range<u64>) -> Option<u64> + use<> {
    let schedule = schedule(client, view, known).await;
    move |rounds| {
        let (schedule, shards) = schedule.as_ref()?;
        let count = u32::try_from(shards.len()).ok()?;
        let of_shard = |round, (index, samples): (u32, &u64)| {
            let slice = schedule.slice(round, index, count, *samples);
            slice.end - slice.start
        };
        Some(rounds.map(|round| (0..).zip(shards).map(|shard| of_shard(round, shard)).sum::<u64>()).sum())
    }
}

/// The job's schedule and the samples of each of its training shards.
async fn schedule(client: &Client, view: &JobView, known: &Known) -> Option<(Schedule, Vec<u64>)> {
    let spec = JobSpec::from_toml(&view.spec, &|_| None).ok().filter(|spec| spec.kind == Kind::Train)?;
    // The ranks with which it began.
    let world = known.workers.iter().find_map(|entry| match &entry.event {
        Event::Members { members, .. } => u32::try_from(members.len()).ok(),
        _ => None,
    })?;
    let manifest = jobs::manifest(client, &spec).await.ok()?;
    let split = manifest.split(&spec.data.train).ok()?;
    let schedule = Schedule::new(&spec, split.samples, world);
    Some((schedule, split.shards.iter().map(|shard| shard.samples).collect()))
}

fn values(record: &Record, batches: &Batches) -> serde_json::Value {
    json!({
        "rounds": record.points(),
        "epochs": record.epochs(),
        "batches": batches.batches,
        "counted": batches.epochs(),
        "workers": record.times(),
    })
}

/// A job's numbers for people.
fn describe(view: &JobView, record: &Record, batches: &Batches, canvas: Canvas) -> String {
    let mut parts = vec![curves(view, record, canvas)];
    let epochs = record.epochs();
    if !epochs.is_empty() {
        parts.push(epochs_table(&epochs, batches));
    }
    if !batches.batches.is_empty() {
        parts.push(batches_table(batches));
    }
    let times = record.times();
    if !times.is_empty() {
        parts.push(times_table(&times, &view.leases));
    }
    parts.retain(|part| !part.is_empty());
    match parts.is_empty() {
        true => format!("no numbers are reported yet: {} is {}", view.id, view.status),
        false => parts.join("\n"),
    }
}

/// The training loss by round, and what is known of the validation split by epoch; empty where nothing is known yet, or where
/// nothing is trained.
pub fn curves(view: &JobView, record: &Record, canvas: Canvas) -> String {
    match jobs::kind_of(view) {
        Kind::Train => curves_of(record, canvas),
        Kind::Evaluate | Kind::Predict => String::new(),
    }
}

fn curves_of(record: &Record, canvas: Canvas) -> String {
    let points: Vec<Point> = record.points().into_iter().filter(|point| !point.replaced).collect();
    let losses: Vec<(f64, f64)> = points.iter().map(|point| (point.round as f64, point.loss)).collect();
    let epochs = record.epochs();
    let of_epochs = |value: fn(&Epoch) -> Option<f64>| -> Vec<(f64, f64)> {
        epochs.iter().filter_map(|epoch| value(epoch).map(|value| ((epoch.epoch + 1) as f64, value))).collect()
    };
    let accuracies = of_epochs(|epoch| epoch.accuracy.map(|accuracy| accuracy * 100.0));
    let mut text = String::new();
    if losses.len() > 1 {
        text += &canvas.draw("training loss, by round", &losses, 8, |value| format!("{value:.4}"));
    }
    // A curve needs two points; the table shows the only one.
    if accuracies.len() > 1 {
        text += &canvas.draw("accuracy on the validation data, by epoch", &accuracies, 5, |value| format!("{value:.2} %"));
    } else if epochs.len() > 1 && accuracies.is_empty() {
        let losses = of_epochs(|epoch| Some(epoch.loss));
        text += &canvas.draw("loss on the validation data, by epoch", &losses, 5, |value| format!("{value:.4}"));
    }
    text
}

fn epochs_table(epochs: &[Epoch], batches: &Batches) -> String {
    let sums = batches.epochs();
    let rows = epochs.iter().map(|epoch| {
        let check = match sums.iter().find(|sum| sum.epoch == epoch.epoch) {
            None => "?".to_owned(),
            Some(sum) if sum.untold > 0 => format!("{} rounds before it were not reported", sum.untold),
            Some(sum) if sum.estimated => format!("about {}", sum.samples),
            Some(sum) if sum.samples == epoch.trained => "each once".to_owned(),
            Some(sum) => format!("{} are reported", sum.samples),
        };
        vec![
            format!("{} of {}", epoch.epoch + 1, epoch.epochs),
            epoch.training_loss.map_or("?".into(), |loss| format!("{loss:.4}")),
            format!("{:.4}", epoch.loss),
            epoch.accuracy.map_or("-".into(), |accuracy| format!("{:.2} %", accuracy * 100.0)),
            epoch.trained.to_string(),
            check,
            epoch.took_ms.map_or("?".into(), output::duration),
            epoch.samples_per_s().map_or("?".into(), |speed| format!("{speed:.0}")),
        ]
    });
    let header = ["epoch", "training loss", "validation loss", "accuracy", "samples", "by the ledger", "took", "samples/s"];
    output::table(&header, &[1, 2, 3, 4, 6, 7], rows)
}

fn batches_table(batches: &Batches) -> String {
    let rows = batches.batches.iter().map(|batch| {
        let workers: Vec<String> = batch.ranks.iter().map(u32::to_string).collect();
        vec![
            (batch.epoch + 1).to_string(),
            format!("{} to {}", batch.from + 1, batch.to),
            format!("{}{}", if batch.estimated { "about " } else { "" }, batch.samples),
            workers.join(", "),
            match batch.fate {
                Fate::Counted => "yes".to_owned(),
                Fate::Replaced { by } => format!("no: trained again, as change {by} of the workers went back to a checkpoint"),
            },
        ]
    });
    output::table(&["epoch", "rounds", "samples", "by workers", "counts"], &[0, 2], rows)
}

#[cfg(test)]
mod tests {
    use super::{
        super::record::testing::{epoch, report, round, trained},
        *,
    };

    #[test]
    fn the_tables_say_of_each_epoch_whether_each_sample_counts_once() {
        let record = Record::of([
            report(10, 0, 1, round(5, 2.0)),
            report(12, 0, 2, round(10, 1.0)),
            report(12, 0, 3, trained(1, 0..10, &[0, 1])),
            report(13, 0, 4, epoch(0, 25, 0.9)),
            report(14, 0, 5, trained(1, 10..13, &[0, 1])),
            report(20, 2, 1, trained(2, 10..20, &[2])),
            report(21, 2, 2, epoch(1, 40, 0.5)),
        ]);
        let batches = record.batches(&|_| None);
        let text = epochs_table(&record.epochs(), &batches) + &batches_table(&batches);
        for part in ["50.00 %", "80.00 %", "1.5000", "1 to 10", "11 to 13", "11 to 20", "no: trained again, as change 2"] {
            assert!(text.contains(part), "'{part}' is not in:\n{text}");
        }
        assert_eq!(text.matches("each once").count(), 2, "{text}");
        let curves = curves_of(&record, Canvas { width: 60, unicode: false });
        assert!(curves.contains("training loss") && curves.contains("80.00 % |"), "{curves}");
        assert_eq!(curves_of(&Record::default(), Canvas { width: 60, unicode: false }), "");
    }
}
