//! `crewfleet events ID`

use std::cell::Cell;
use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use clap::Args;
use crewfleet::{Event, EventStream, KickoffClient, KickoffId, KickoffStatus};
use crewfleet_protocol::event::event_type;
use crewfleet_service::harmless::harmless;
use serde_json::Value;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::crews::LookedAt;
use super::{status, wait};
use crate::exit::Exit;
use crate::format::Lines;
use crate::output::{gave_up, in_words, one_line, print, say};
use crate::settings::Settings;

/// Reply and last event take different ways: so long the one waits for the other.
const LAST_EVENT: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Arguments {
    /// The kickoff's id
    id: KickoffId,
    /// Give up when nobody has known of the kickoff for so many seconds (exit 3), as `wait` does
    #[arg(long, value_name = "SECONDS", value_parser = wait::seconds, default_value = "60")]
    unknown: Duration,
    #[command(flatten)]
    crews: LookedAt,
    #[command(flatten)]
    format: Lines,
}

pub(crate) async fn run(
    settings: &Settings,
    arguments: Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let crews = arguments.crews.with_configured(settings)?;
    let watching = async {
        let client = KickoffClient::connect(&settings.broker, "crewfleet events").await?;
        let stream = client.events(&arguments.id).await?;
        // They are live: of a kickoff that is finished nothing would ever come. Its reply says so.
        let mut handle = client.attach(&arguments.id).await?;
        say(&format!("listening for the events of kickoff {}", arguments.id));
        let shown = Cell::new(false);
        let mut show = |event: &Event| {
            shown.set(true);
            let line = if arguments.format.is_json() {
                one_line(event)?
            } else {
                line(event)
            };
            print(&line)
        };
        let told = |status: &KickoffStatus| wait::tell(status, arguments.unknown);
        let reply = async {
            let reply = handle.reply_unless_unknown(&crews, arguments.unknown, told);
            Ok(reply.await?)
        };
        let mut reply = until_reply(stream, reply, &mut show).await;
        if matches!(reply, Ok(Ok(_)))
            && !shown.get()
            && let Err(error) = past(&client, &arguments.id, &mut show).await
        {
            reply = Err(error);
        }
        client.close().await;
        reply
    };
    match stop.run_until_cancelled(watching).await {
        Some(reply) => match reply? {
            Ok(reply) => {
                say(&format!(
                    "kickoff {} {}",
                    reply.kickoff_id,
                    in_words(reply.status)
                ));
                Ok(Exit::Succeeded)
            }
            Err(status) => {
                say(&status::still_unknown(&status, arguments.unknown));
                Ok(Exit::Broker)
            }
        },
        None => Ok(gave_up(&arguments.id, "interrupted")),
    }
}

/// Shows the events of a kickoff that was finished before anybody listened, where they are kept.
async fn past(
    client: &KickoffClient,
    id: &KickoffId,
    show: &mut impl FnMut(&Event) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    match client.past_events(id).await? {
        Some(events) => events.iter().try_for_each(show),
        None => {
            say("its events are over; only where a gateway runs are they kept");
            Ok(())
        }
    }
}

/// Shows events until the kickoff is finished, and returns its reply, which this waits for.
pub(super) async fn until_reply<R>(
    mut stream: EventStream,
    reply: impl Future<Output = anyhow::Result<R>>,
    show: &mut impl FnMut(&Event) -> anyhow::Result<()>,
) -> anyhow::Result<R> {
    let mut waiting = pin!(reply);
    let reply = loop {
        tokio::select! {
            biased;
            event = stream.next() => match event {
                Some(event) => show(&event)?,
                None => return waiting.await,
            },
            reply = &mut waiting => break reply?,
        }
    };
    let rest = async {
        while let Some(event) = stream.next().await {
            show(&event)?;
        }
        anyhow::Ok(())
    };
    timeout(LAST_EVENT, rest).await.unwrap_or(Ok(()))?;
    Ok(reply)
}

/// For whoever waits for a result on stdout.
pub(super) fn to_stderr(event: &Event) -> anyhow::Result<()> {
    let _ = writeln!(std::io::stderr(), "{}", line(event));
    Ok(())
}

/// As in `12:00:01.250 task_started task="research"`; what the crew printed as `12:00:01.250 | its words`.
pub(crate) fn line(event: &Event) -> String {
    let time = event.time.format("%H:%M:%S%.3f");
    let data: Value = serde_json::from_str(event.data.get()).unwrap_or_default();
    if event.event_type == event_type::LOG
        && let Some(line) = data.get("line").and_then(Value::as_str)
    {
        // Programs send events of their own, so who knows what is in this one.
        return format!("{time} | {}", harmless(line.as_bytes()));
    }
    let mut text = format!("{time} {}", event.event_type);
    if event.attempt > 1 {
        text += &format!(" attempt={}", event.attempt);
    }
    match data {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                text += &format!(" {name}={value}");
            }
        }
        Value::Null => {}
        other => text += &format!(" {other}"),
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn event(event_type: &str, attempt: u32, data: &str) -> Event {
        serde_json::from_str(&format!(
            r#"{{"kickoff_id": "a", "crew": "echo", "attempt": {attempt}, "sequence": 1,
                "time": "2026-11-22T10:00:01.25Z", "type": "{event_type}", "data": {data}, "meta": null}}"#
        ))
        .unwrap()
    }

    #[test]
    fn lines_for_people() {
        for (event, expected) in [
            (
                event("log", 1, r#"{"stream": "stdout", "line": "hello"}"#),
                "10:00:01.250 | hello",
            ),
            (
                event("log", 1, r#"{"line": "\u001b[2J\u001b]0;x\u0007a\tb"}"#),
                "10:00:01.250 | a\tb",
            ),
            (
                event("task_started", 1, r#"{"task": "x", "agent": null}"#),
                "10:00:01.250 task_started task=\"x\"",
            ),
            (
                event("kickoff_started", 2, "null"),
                "10:00:01.250 kickoff_started attempt=2",
            ),
        ] {
            assert_eq!(line(&event), expected);
        }
    }
}
