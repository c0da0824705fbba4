//! `crewfleet wait ID`

use std::cell::Cell;
use std::convert::Infallible;
use std::time::Duration;

use clap::Args;
use crewfleet::status::Stage;
use crewfleet::{KickoffClient, KickoffId, KickoffStatus};
use tokio_util::sync::CancellationToken;

use super::crews::LookedAt;
use super::{chains, status};
use crate::exit::Exit;
use crate::format::ReplyFormat;
use crate::output::{gave_up, reply, say};
use crate::settings::Settings;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The kickoff's id
    id: KickoffId,
    /// Give up waiting after so many seconds (exit 8); the kickoff goes on
    #[arg(short, long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Give up when nobody has known of the kickoff for so many seconds (exit 3): no worker has it, or none runs, no reply is
    /// kept, and nothing waits in the queues that are looked at
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "60")]
    unknown: Duration,
    #[command(flatten)]
    crews: LookedAt,
    #[command(flatten)]
    format: ReplyFormat,
}

pub(crate) async fn run(
    settings: &Settings,
    arguments: Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let crews = arguments.crews.with_configured(settings)?;
    let connecting = KickoffClient::connect(&settings.broker, "crewfleet wait");
    let Some(client) = stop.run_until_cancelled(connecting).await else {
        return Ok(gave_up(&arguments.id, "interrupted"));
    };
    let client = client?;
    let is_nowhere = Cell::new(false);
    let told = |status: &KickoffStatus| {
        is_nowhere.set(status.is_nowhere());
        tell(status, arguments.unknown);
    };
    let waiting = async {
        let mut handle = client.attach(&arguments.id).await?;
        handle.reply_unless_unknown(&crews, arguments.unknown, told).await
    };
    let waited = patiently(&client, &arguments.id, waiting, arguments.timeout, stop).await;
    client.close().await;
    match waited {
        Ok(answered) => match answered? {
            Ok(answered) => {
                if answered.chain.as_ref().is_some_and(|chain| chain.next.is_some()) {
                    say(&chains::went_on(&answered));
                } else if let Some(end) = chains::end(&answered) {
                    say(&end);
                }
                reply(&answered, arguments.format.is_json())
            }
            Err(status) => {
                say(&status::still_unknown(&status, arguments.unknown));
                Ok(Exit::Broker)
            }
        },
        Err(why) if is_nowhere.get() => {
            say(&format!("{why}; there is no trace of kickoff {}", arguments.id));
            Ok(Exit::GaveUp)
        }
        Err(why) => Ok(gave_up(&arguments.id, why)),
    }
}

/// Says where a kickoff is that no worker has.
pub(super) fn tell(status: &KickoffStatus, patience: Duration) {
    match status.stage {
        _ if status.is_nowhere() => say(&format!(
            "{}. Waiting another {} s",
            status::unknown(status),
            patience.as_secs_f64()
        )),
        Stage::Unseen => say(&format!("{} Waiting for its reply", status::text(status))),
        _ => {}
    }
}

/// When it is said that the broker is away …
const AWAY: Duration = Duration::from_secs(10);
/// … and how often from then on, for as long as it is.
const STILL_AWAY: Duration = Duration::from_secs(60);

/// Says that the broker is away, for as long as it is.
async fn tell_when_away(client: &KickoffClient, id: &KickoffId) -> Infallible {
    let mut pause = AWAY;
    loop {
        tokio::time::sleep(pause).await;
        pause = AWAY;
        if !client.is_connected() {
            pause = STILL_AWAY;
            say(&format!(
                "kickoff {id}: not connected to {} at present; its reply is waited for until Ctrl-C, and is kept if you wait \
                 for it later (crewfleet wait {id})",
                client.endpoint()
            ));
        }
    }
}

/// Waits for the kickoff's reply until `timeout` or a signal; then says why it gave up.
pub(super) async fn patiently<T>(
    client: &KickoffClient,
    id: &KickoffId,
    waiting: impl Future<Output = T>,
    timeout: Option<Duration>,
    stop: &CancellationToken,
) -> Result<T, String> {
    let limit = async {
        match timeout {
            Some(timeout) => tokio::time::sleep(timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        done = waiting => Ok(done),
        () = stop.cancelled() => Err("interrupted".into()),
        never = tell_when_away(client, id) => match never {},
        () = limit => Err(format!("no reply within {} s", timeout.unwrap_or_default().as_secs_f64())),
    }
}

/// A number of seconds, above 0, as in `90` or `1.5`.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let expected = || {
        "expected a time above 0: seconds, as in 90 or 1.5, or with a unit, as in 5m or \"1h 30m\"".to_owned()
    };
    let duration = match text.parse() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|_| expected())?,
        Err(_) => humantime::parse_duration(text).map_err(|_| expected())?,
    };
    match duration.is_zero() {
        true => Err(expected()),
        false => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_numbers_above_zero() {
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(seconds("1h 30m"), Ok(Duration::from_secs(5400)));
        for bad in ["0", "0s", "-1", "soon", "5 bananas", "inf", "NaN", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
