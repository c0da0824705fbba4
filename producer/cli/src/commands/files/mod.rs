//! `crewfleet files ID`

pub(super) mod download;
mod list;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use crewfleet::status::Stage;
use crewfleet::{KickoffClient, KickoffId, Reply};
use crewfleet_protocol::{FilesLeftOut, ResultFile};
use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;

use self::download::Download;
use super::crews::LookedAt;
use super::status;
use crate::exit::Exit;
use crate::format::{Format, Output};
use crate::output::{counted, in_words, one_line, print, say, worker as named};
use crate::settings::Settings;

#[derive(Args)]
#[command(
    after_help = "Exit codes: 0 it is done; 1 a file can't be had, or the kickoff failed; 2 usage, configuration, or a file \
that is there already; 3 there is no trace of the kickoff, or the broker is unreachable; 4 to 7 how the kickoff \
ended otherwise; 8 it has no reply yet."
)]
pub(crate) struct Arguments {
    /// The kickoff's id
    id: KickoffId,
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    crews: LookedAt,
    /// Fetch all files into this folder, below their paths
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Replace files that are there already
    #[arg(long, requires = "output")]
    force: bool,
    /// What to print: -o json is the list as it stands in the reply. It has no long form, since --output is the folder
    #[arg(
        short = 'o',
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        conflicts_with = "output"
    )]
    format: Output,
    /// As -o json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

#[derive(Subcommand)]
enum Action {
    /// List the files (the default)
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Fetch one file, to stdout
    Get {
        /// Its path, as the list has it
        path: String,
        /// Write it to this file, or under its name into this folder
        #[arg(long, value_name = "FILE|DIR")]
        output: Option<PathBuf>,
        /// Replace a file that is there already
        #[arg(long, requires = "output")]
        force: bool,
    },
}

pub(crate) async fn run(
    settings: &Settings,
    arguments: Arguments,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let json = arguments.json || arguments.format == Output::Json;
    if arguments.action.is_some() && (arguments.output.is_some() || json) {
        bail!("--output, -o and --json stand behind `list` or `get PATH`");
    }
    let working = async {
        let client = KickoffClient::connect(&settings.broker, "crewfleet files").await?;
        let done = answer(&client, settings, &arguments).await;
        client.close().await;
        done
    };
    match stop.run_until_cancelled(working).await {
        Some(done) => done,
        None => {
            say("interrupted");
            Ok(Exit::GaveUp)
        }
    }
}

async fn answer(client: &KickoffClient, settings: &Settings, arguments: &Arguments) -> anyhow::Result<Exit> {
    let id = &arguments.id;
    let crews = arguments.crews.with_configured(settings)?;
    let Some(reply) = client.find_reply(id).await? else {
        let status = client.status(id, &crews).await?;
        say(&status::text(&status));
        if status.stage == Stage::Unknown {
            return Ok(Exit::Broker);
        }
        say(&format!(
            "it has no reply yet, or none that is kept. Wait for it: crewfleet wait {id}"
        ));
        return Ok(Exit::GaveUp);
    };
    let Some(result) = &reply.result else {
        say(&format!(
            "kickoff {id} {}: only those that succeed give files{}",
            in_words(reply.status),
            folder(&reply, settings.keeps_failed_s())
        ));
        return Ok(reply.status.into());
    };
    let json = match &arguments.action {
        Some(Action::Get { path, output, force }) => {
            return get(client, &reply, path, output.as_deref(), *force).await;
        }
        Some(Action::List { format }) => format.is_json(),
        None => arguments.json || arguments.format == Output::Json,
    };
    if let Some(dir) = &arguments.output {
        return all(client, &reply, dir, arguments.force).await;
    }
    if json {
        print(&one_line(&result.files)?)?;
    } else if result.files.is_empty() && result.files_left_out.is_none() {
        say(&format!("kickoff {id} left no files"));
    } else {
        print(&list::table(&result.files))?;
        if let Some(until) = result.files_until {
            say(&format!("{} keeps them until {until}", named(&reply.worker)));
        }
    }
    tell_left_out(reply_left_out(&reply));
    Ok(Exit::Succeeded)
}

/// Where the folder of a kickoff stays that gives no files. Each worker has its own configuration, which may be another
/// than ours.
fn folder(reply: &Reply, keeps_failed_s: Option<f64>) -> String {
    if reply.started_at.is_none() {
        return String::new();
    }
    let kept = match keeps_failed_s {
        Some(0.0) => return String::new(),
        Some(seconds) => match Duration::try_from_secs_f64(seconds) {
            Ok(kept) => humantime::format_duration(kept).to_string(),
            Err(_) => return String::new(),
        },
        None => "[worker] keep_failed_s, by default 1h".to_owned(),
    };
    format!("; its folder stays with {} for {kept}", named(&reply.worker))
}

async fn get(
    client: &KickoffClient,
    reply: &Reply,
    path: &str,
    output: Option<&std::path::Path>,
    force: bool,
) -> anyhow::Result<Exit> {
    let Some(output) = output else {
        let mut content = client.file(reply, path).await?.into_stream();
        let mut stdout = std::io::stdout().lock();
        while let Some(bytes) = content.try_next().await? {
            match stdout.write_all(&bytes).and_then(|()| stdout.flush()) {
                // A reader that has gone away (`| head -1`) is no error.
                Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => break,
                written => written.context("cannot write to stdout")?,
            }
        }
        return Ok(Exit::Succeeded);
    };
    let name = path.rsplit('/').next().unwrap_or(path);
    let target = match output.is_dir() {
        true => output.join(name),
        false => output.to_owned(),
    };
    let bytes = reply.result.as_ref().into_iter().flat_map(|result| &result.files);
    let bytes = bytes
        .filter(|file| file.path == path)
        .map(|file| file.bytes)
        .sum();
    let mut download = Download::new(client, reply, force, bytes);
    download.free(&target)?;
    let fetched = download.file(path, &target).await;
    download.finish();
    fetched?;
    say(&format!("{path:?} is in {}", target.display()));
    Ok(Exit::Succeeded)
}

/// Fetches all files into a folder. What can't be had is told, and the others are fetched all the same.
pub(super) async fn all(
    client: &KickoffClient,
    reply: &Reply,
    dir: &std::path::Path,
    force: bool,
) -> anyhow::Result<Exit> {
    let files = reply.result.as_ref().map_or(&[][..], |result| &result.files);
    let (can, cannot): (Vec<&ResultFile>, Vec<_>) = files.iter().partition(|file| list::can_be_had(file));
    let bytes = can.iter().map(|file| file.bytes).sum();
    let mut download = Download::new(client, reply, force, bytes);
    let mut targets = Vec::new();
    for file in &can {
        targets.push(download::below(dir, &file.path)?);
    }
    for target in &targets {
        download.free(target)?;
    }
    for (file, target) in can.iter().zip(&targets) {
        let fetched = download.file(&file.path, target).await;
        if fetched.is_err() {
            download.finish();
        }
        fetched?;
    }
    download.finish();
    for file in &cannot {
        let reason = file.error.as_deref().unwrap_or_default();
        say(&format!("{:?} cannot be had: {reason}", file.path));
    }
    let left_out = reply_left_out(reply);
    tell_left_out(left_out);
    say(&match can.len() {
        0 => "the kickoff left no files".to_owned(),
        files => format!(
            "{} ({}) fetched to {}",
            counted(files as u64, "file"),
            counted(bytes, "byte"),
            dir.display()
        ),
    });
    Ok(if cannot.is_empty() && left_out.is_none() {
        Exit::Succeeded
    } else {
        Exit::Failed
    })
}

fn reply_left_out(reply: &Reply) -> Option<&FilesLeftOut> {
    reply.result.as_ref()?.files_left_out.as_ref()
}

fn tell_left_out(left_out: Option<&FilesLeftOut>) {
    if let Some(FilesLeftOut { count, bytes, first }) = left_out {
        say(&format!(
            "{}, {}, neither named nor kept, the first of them {first:?}: the crew's max_files is too small for them, or their \
             names are not UTF-8",
            counted(*count, "more file"),
            counted(*bytes, "byte")
        ));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn timed_out(started_at: &str) -> Reply {
        let text = format!(
            r#"{{"kickoff_id": "slow", "crew": "poet", "status": "timed_out", "result": null, "error": null, "meta": null,
                "attempt": 1, "redrive": 0, "worker": "worker-2", "requested_at": null, "started_at": {started_at},
                "finished_at": "2026-11-22T10:00:00Z", "duration_s": 1.0}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_folder_of_a_failed_kickoff_is_told_with_its_time() {
        let ran = timed_out("\"2026-11-22T09:59:59Z\"");
        assert_eq!(
            folder(&ran, Some(5400.0)),
            "; its folder stays with worker-2 for 1h 30m"
        );
        assert_eq!(
            folder(&ran, None),
            "; its folder stays with worker-2 for [worker] keep_failed_s, by default 1h"
        );
        assert_eq!(folder(&ran, Some(0.0)), "", "none is kept");
        assert_eq!(folder(&timed_out("null"), None), "");
    }
}
