//! What a program that was started with `--json` prints: one JSON value, while it runs on.

use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::oneshot,
};

/// Hands on the first JSON value that a program prints, and swallows the rest. Looks at some more than `most` bytes at the most.
pub async fn hear(mut stdout: impl AsyncRead + Unpin, most: usize, answer: oneshot::Sender<Value>) {
    let mut answer = Some(answer);
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = stdout.read(&mut buffer).await {
        if answer.is_none() || text.len() > most {
            continue;
        }
        text.extend_from_slice(&buffer[..length]);
        let first = serde_json::Deserializer::from_slice(&text).into_iter().next();
        if let Some(Ok(value)) = first
            && let Some(sender) = answer.take()
        {
            let _ = sender.send(value);
        }
    }
}
