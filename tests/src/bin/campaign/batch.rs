//! A batch with an end: rows of a file by `crewfleet kickoff-for-each`, which is killed and run again, and the one kickoff
//! that follows them.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::ensure;
use crewfleet_protocol::{KickoffId, Reply};
use crewfleet_tests::crews;
use serde_json::{Value, json};

use super::{
    follow::Follow,
    history::{Asked, BatchRan, History, Publish, ReplySeen},
    journal::{self, Nanos, now},
    lives::{Killed, Lives},
    producer::seen,
    site::{HEARTBEAT_S, NAMESPACE, Site},
    workload::{Act, BATCHER, Order, ROWS, SWIFT},
};

/// The batch's id.
const BATCH: &str = "nightly";
/// The files of the rows, of their replies, and of what the command did.
const INPUTS: &str = "rows.jsonl";
const OUTPUT: &str = "rows-out.jsonl";
const JOURNAL: &str = "rows-out.jsonl.journal";
/// One of so many rows fails.
const FAILING: u64 = 50;
/// So many rows are on their way at once: a part of all, within these bounds; the workers take half of the most.
const AT_ONCE: (u64, u64) = (8, 96);
/// The rows are to last this part of the time in which faults come, and no row longer than this.
const PART_OF_SPAN: f64 = 0.8;
const LONGEST_MS: u64 = 2_000;
/// How often it is looked whether the command has ended.
const LOOK: Duration = Duration::from_millis(200);
/// The statuses with which it has done all that there is to do: all rows succeeded, or some did not.
const DONE: [i32; 2] = [0, 1];

/// The command.
#[derive(Debug)]
pub(crate) struct Batch(Lives);

impl Batch {
    /// Writes the rows, and starts the command. `span`: in which faults come.
    pub(crate) fn start(site: &Site, folder: &Path, rows: u64, span: Duration) -> anyhow::Result<Self> {
        let at_once = (rows / FAILING).clamp(AT_ONCE.0, AT_ONCE.1);
        let lasts_ms = span.as_millis() as f64 * PART_OF_SPAN;
        let taken = at_once.min(AT_ONCE.1 / 2);
        let work_ms = (lasts_ms * taken as f64 / rows as f64) as u64;
        let lines: String = (1..=rows)
            .map(|row| format!("{}\n", json!(order(row, work_ms.min(LONGEST_MS)))))
            .collect();
        fs::write(folder.join(INPUTS), lines)?;
        let log = folder.join("kickoff-for-each.log");
        Ok(Self(Lives::begin(
            "kickoff-for-each",
            command(folder, &site.url(), at_once),
            log,
        )))
    }

    /// Waits until it has done all, and runs it again where it gave up before: a broker that is away lets it not begin.
    pub(crate) async fn see_through(&self) -> anyhow::Result<()> {
        loop {
            tokio::time::sleep(LOOK).await;
            let mut process = self.0.process().await;
            if process.is_running() {
                continue;
            }
            let output = process.output().await;
            if output.code.is_some_and(|code| DONE.contains(&code)) {
                return Ok(());
            }
            let said = output.stderr.join("\n");
            ensure!(
                said.contains("run the same command again") || said.contains("cannot connect"),
                "kickoff-for-each ends with {:?}: {said}",
                output.code
            );
            self.0.begin_again(&mut process);
        }
    }

    /// Kills it; `None` where it has done all.
    pub(crate) async fn kill(&self) -> anyhow::Result<Option<Killed<'_>>> {
        self.0.kill().await
    }
}

fn command(folder: &Path, url: &str, at_once: u64) -> Command {
    let follows = json!({"crew": SWIFT, "inputs": Order {
        nonce: callback_nonce(),
        work_ms: 10,
        acts: vec![Act::Succeed],
        steps: Vec::new(),
        told: Some(json!("$.batch")),
        results: Some(json!("$.items[*].result.raw")),
    }});
    let mut command = Command::new(crews::binary("crewfleet"));
    command
        .args(["kickoff-for-each", ROWS, "--inputs", INPUTS, "--output", OUTPUT])
        .args(["--batch", BATCH, "--then", &follows.to_string()])
        .args(["--concurrency", &at_once.to_string()])
        .env("CREWFLEET__BROKER__URL", url)
        .env("CREWFLEET__BROKER__NAMESPACE", NAMESPACE)
        .env("CREWFLEET__BROKER__HEARTBEAT_S", HEARTBEAT_S.to_string())
        .current_dir(folder);
    command
}

fn order(row: u64, work_ms: u64) -> Order {
    let act = match row.is_multiple_of(FAILING) {
        true => Act::Fail,
        false => Act::Succeed,
    };
    Order {
        nonce: format!("row-{row}"),
        work_ms,
        acts: vec![act],
        ..Order::default()
    }
}

fn callback_nonce() -> String {
    format!("after-{BATCH}")
}

/// Adds the rows and what follows them to what was asked for, where all of it was sent from `began` on.
pub(crate) fn read(folder: &Path, rows: u64, began: Nanos, history: &mut History) -> anyhow::Result<()> {
    let publish = Publish {
        begin: began,
        end: Some(now()),
        is_confirmed: true,
    };
    let asked = |crew: &str, order: Order| Asked {
        producer: BATCHER.to_owned(),
        crew: crew.to_owned(),
        order,
        publishes: vec![publish],
        cancelled: false,
        has_deadline: false,
        answers: Vec::new(),
        follow: Follow::default(),
        step: None,
    };
    for row in 1..=rows {
        history
            .asked
            .insert(format!("{BATCH}-{row}"), asked(ROWS, order(row, 0)));
    }
    // Each line is a reply, with the number of its row beside.
    let told: Vec<Reply> = journal::read(&folder.join(OUTPUT))?;
    for reply in told {
        let asked = history.asked.get_mut(&reply.kickoff_id);
        let Some(asked) = asked.filter(|asked| asked.producer == BATCHER) else {
            history
                .troubles
                .push(format!("kickoff-for-each has a reply of {}", reply.kickoff_id));
            continue;
        };
        asked.answers.push((now(), seen(&reply)));
    }
    let callback = KickoffId::of_batch(BATCH).to_string();
    let own = Order {
        nonce: callback_nonce(),
        acts: vec![Act::Succeed],
        ..Order::default()
    };
    let mut follows = asked(SWIFT, own);
    // What the command's own journal says that it was told; the reply itself is what the wire had.
    for status in followed(&folder.join(JOURNAL))? {
        let told = |reply: &&ReplySeen| reply.id == callback && reply.status == status;
        match history.replies.iter().find(told) {
            Some(reply) => follows.answers.push((reply.finished, reply.clone())),
            None => history
                .troubles
                .push(format!("kickoff-for-each was told that {callback} is {status}")),
        }
    }
    history.asked.insert(callback.clone(), follows);
    history.batch = Some(BatchRan {
        id: BATCH.to_owned(),
        items: rows,
        callback,
    });
    Ok(())
}

/// How the command saw what follows end. A SIGKILL may leave part of a line, which the next run goes on behind.
fn followed(journal: &Path) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(journal)?;
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let followed = lines.filter(|line| line["journal"] == "followed");
    Ok(followed
        .filter_map(|line| Some(line["status"].as_str()?.to_owned()))
        .collect())
}

/// Where a gateway shows it.
pub(crate) fn path() -> String {
    format!("/v1/batches/{BATCH}")
}
