//! A crew that writes down what it does, and ends when the test says so.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use serde_json::json;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    PATIENCE,
    crews::plain_python,
    process::{TICK, until},
};

/// The program. It writes `start ID ATTEMPT` and `end ID ATTEMPT`; its inputs say what it does in between: `hold`
/// (until it is released), `grow_mb` (memory to take), `kill_worker`, and `outcomes`, a list with an entry for each
/// attempt: `{"exit": 75}`, `{"signal": 9}`, `{"error": {…}}`, `{"hang": true}`; none is success.
const PROGRAM: &str = r#"
import json, os, signal, sys, time
folder, request = sys.argv[1], json.load(sys.stdin)
kickoff, attempt, inputs = request["kickoff_id"], request["attempt"], request["inputs"]
def note(what):
    with open(folder + "/journal", "a") as journal:
        journal.write(f"{what} {kickoff} {attempt}\n")
def hold(name):
    while os.path.isdir(folder) and not os.path.exists(f"{folder}/{name}"):
        time.sleep(0.02)
note("start")
if inputs.get("kill_worker"):
    os.kill(os.getppid(), signal.SIGKILL)
    hold("never")
ballast = b"x" * (inputs.get("grow_mb", 0) << 20)
if inputs.get("hold"):
    hold("release-" + kickoff)
outcomes = inputs.get("outcomes", [])
outcome = outcomes[attempt - 1] if attempt <= len(outcomes) else {}
if outcome.get("hang"):
    hold("never")
note("end")
if "signal" in outcome:
    os.kill(os.getpid(), outcome["signal"])
if "exit" in outcome:
    sys.exit(outcome["exit"])
print(json.dumps({"error": outcome["error"]} if "error" in outcome else {"raw": "done"}))
"#;

/// A folder where crews write down what they do.
#[derive(Debug)]
pub struct Journal(TempDir);

impl Journal {
    /// An empty one.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        let made = tempfile::Builder::new().prefix("crewfleet-journal-").tempdir();
        Self(made.expect("a temporary folder"))
    }

    /// The crew that writes here, without its section's heading.
    pub fn crew(&self, concurrency: u32) -> String {
        let command = json!([plain_python(), "-c", PROGRAM, self.0.path()]);
        format!("runner = \"command\"\ncommand = {command}\nconcurrency = {concurrency}\n")
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path().join("journal")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The attempts of a kickoff that were started, in order.
    pub fn starts(&self, kickoff_id: &str) -> Vec<String> {
        let prefix = format!("start {kickoff_id} ");
        let lines = self.lines();
        lines
            .iter()
            .filter_map(|line| line.strip_prefix(&prefix))
            .map(str::to_owned)
            .collect()
    }

    /// Waits until a kickoff was started so often.
    pub async fn started(&self, kickoff_id: &str, times: usize) {
        let started = async {
            let mut tick = tokio::time::interval(TICK);
            while self.starts(kickoff_id).len() < times {
                tick.tick().await;
            }
        };
        // Another worker may wait for its heartbeats first.
        if timeout(PATIENCE + Duration::from_secs(30), started)
            .await
            .is_err()
        {
            panic!("{kickoff_id} was not started {times} times: {:?}", self.lines());
        }
    }

    /// Waits until so many were started, and returns the id of the one that does not end.
    pub async fn any_started(&self, count: usize) -> String {
        until("kickoffs that are started, of which one holds", || {
            let lines = self.lines();
            let ids = |what: &str| -> BTreeSet<String> {
                let of = lines
                    .iter()
                    .filter_map(|line| line.strip_prefix(what)?.split(' ').next());
                of.map(str::to_owned).collect()
            };
            let (started, ended) = (ids("start "), ids("end "));
            let mut open = started.difference(&ended);
            (started.len() == count && ended.len() + 1 == count).then(|| open.next().cloned())?
        })
        .await
    }

    /// Lets a kickoff that holds go on.
    pub fn release(&self, kickoff_id: &str) {
        let file = self.path().join(format!("release-{kickoff_id}"));
        fs::write(file, "").expect("the file is written");
    }

    /// Has a kickoff that was released hold again, when it is started once more.
    pub fn hold(&self, kickoff_id: &str) {
        let file = self.path().join(format!("release-{kickoff_id}"));
        fs::remove_file(file).expect("it was released");
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}
