use deepmarket_api::JobEvent;
use deepmarket_types::JobId;
use futures::StreamExt as _;

use crate::{
    error::{Failure, Outcome},
    processes::stop_signal,
    settings::Settings,
    verbs::follow,
};

pub async fn run(settings: &Settings, job: JobId, follow: bool) -> Outcome {
    let client = settings.client()?;
    super::fetch(&client, job).await?;
    if !follow {
        let entries = client.progress(job, 0).await?;
        return settings.output.show(&entries, || entries.iter().map(follow::line).collect::<Vec<_>>().join("\n"));
    }
    let stop = stop_signal(false)?;
    let mut stream = client.progress_stream(job);
    loop {
        let event = tokio::select! {
            event = stream.next() => event,
            () = stop.cancelled() => return Ok(()),
        };
        match event {
            Some(Ok(JobEvent::Progress { entry, .. })) if settings.output.is_json() => {
                println!("{}", serde_json::to_string(&entry).map_err(Failure::bug)?);
            }
            Some(Ok(JobEvent::Progress { entry, .. })) => println!("{}", follow::line(&entry)),
            Some(Ok(JobEvent::State { status, .. })) => settings.output.say(format!("{job} is {status}")),
            Some(Ok(JobEvent::End)) | None => return Ok(()),
            Some(Err(error)) if error.retryable() => settings.output.say(error),
            Some(Err(error)) => return Err(error.into()),
        }
    }
}
