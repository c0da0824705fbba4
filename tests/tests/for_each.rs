//! `crewfleet kickoff-for-each`: rows in, rows out, and every row run once, however often it is interrupted.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::cli::Cli;
use crewfleet_tests::crews::plain_python;
use crewfleet_tests::process::{Output, Process, until};
use crewfleet_tests::worker::WorkerProcess;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A crew that writes the ids of its runs to a file. A run whose inputs say `wait` goes on when another file is there;
/// one whose inputs say `fail` fails.
const COUNTED: &str = "
import json, os, sys, time
request = json.load(sys.stdin)
with open(os.environ['RUNS'], 'a') as runs:
    runs.write(request['kickoff_id'] + '\\n')
while request['inputs'].get('wait') and not os.path.exists(os.environ['GO_ON']):
    time.sleep(0.02)
if request['inputs'].get('fail'):
    print(json.dumps({'error': {'message': 'as asked'}})); sys.exit(1)
print(json.dumps({'raw': 'done', 'json': request['inputs']}))
";

/// A worker with that crew, and a command whose folder has the files.
struct Bakery {
    cli: Cli,
    _worker: WorkerProcess,
}

impl Bakery {
    async fn open() -> Self {
        let (url, namespace) = (broker().await.url(), Namespace::new());
        let cli = Cli::new(&url, &namespace);
        let (runs, go_on) = (json!(cli.dir().join("runs")), json!(cli.dir().join("go-on")));
        let crew = format!(
            "runner = \"command\"\ncommand = {}\nconcurrency = 8\nenv = {{ RUNS = {runs}, GO_ON = {go_on} }}\n",
            json!([plain_python(), "-S", "-c", COUNTED])
        );
        let worker = WorkerProcess::builder(&url, &namespace).crew("counted", &crew);
        Self {
            cli,
            _worker: worker.ready().await,
        }
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).expect("the file is written");
    }

    fn path(&self, file: &str) -> PathBuf {
        self.cli.dir().join(file)
    }

    /// `rows` rows, of which those from `waiting` on wait for [`Self::go_on`].
    fn write_rows(&self, rows: usize, waiting: usize) {
        let row = |n| json!({"n": n, "wait": n >= waiting}).to_string() + "\n";
        self.write("rows.jsonl", &(1..=rows).map(row).collect::<String>());
    }

    fn go_on(&self) {
        self.write("go-on", "");
    }

    async fn run(&self) -> Output {
        self.spawn(&[]).output().await
    }

    fn spawn(&self, options: &[&str]) -> Process {
        let files = ["--inputs", "rows.jsonl", "--output", "out.jsonl"];
        let command = ["kickoff-for-each", "counted", "--concurrency", "8"];
        self.cli.spawn(&[&command, &files, options].concat())
    }

    /// Waits until the file has so many lines.
    async fn has_lines(&self, file: &str, count: usize) {
        let path = self.path(file);
        until(&format!("line {count} of {file}"), || {
            (lines(&path).len() >= count).then_some(())
        })
        .await;
    }

    /// The answered rows, in the order of the output: number and reply.
    fn output(&self) -> Vec<(u64, Value)> {
        let parse = |line: &String| {
            let row: Value = serde_json::from_str(line).expect("a line of JSON");
            (row["row"].as_u64().expect("the row's number"), row)
        };
        lines(&self.path("out.jsonl")).iter().map(parse).collect()
    }

    /// How often each kickoff ran, by its id.
    fn runs(&self) -> BTreeMap<String, usize> {
        let mut runs = BTreeMap::new();
        for id in lines(&self.path("runs")) {
            *runs.entry(id).or_insert(0) += 1;
        }
        runs
    }

    /// Every row stands in the output once, with its own inputs, and ran once.
    fn assert_each_row_once(&self, rows: u64) {
        let output: BTreeMap<u64, Value> = self.output().into_iter().collect();
        assert_eq!(
            self.output().len(),
            output.len(),
            "a row stands twice in the output"
        );
        assert_eq!(
            output.keys().copied().collect::<Vec<_>>(),
            (1..=rows).collect::<Vec<_>>()
        );
        let runs = self.runs();
        assert_eq!(runs.len() as u64, rows);
        let first = output[&1]["kickoff_id"].as_str().expect("an id");
        let batch = first.strip_suffix("-1").expect("the id ends with the row");
        for (row, reply) in &output {
            let id = format!("{batch}-{row}");
            assert_eq!(
                (&reply["kickoff_id"], &reply["result"]["json"]["n"]),
                (&json!(id), &json!(row))
            );
            assert_eq!(runs.get(&id), Some(&1), "how often row {row} ran");
        }
    }
}

/// The whole lines of a file that may be written to just now, or not be there yet.
fn lines(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn rows_are_written_as_they_finish() {
    let bakery = Bakery::open().await;
    bakery.write(
        "rows.jsonl",
        "{\"n\": 1, \"wait\": true}\n\n{\"n\": 3}\n{\"n\": 4, \"fail\": true}",
    );
    // Not a plain word: a worker knows the processes of a kickoff by the kickoff's id, those of other tests too.
    let batch = format!("daily-{}", std::process::id());
    let running = bakery.spawn(&["--batch", &batch]);
    bakery.has_lines("out.jsonl", 2).await;
    bakery.go_on();
    assert_eq!(running.exit().await.code(), Some(1), "one row did not succeed");
    let said = running.stderr.so_far().join("\n");
    assert!(
        said.contains("3 of 3 rows answered in out.jsonl: 2 succeeded, 1 failed"),
        "{said}"
    );

    let output = bakery.output();
    let mut numbers: Vec<u64> = output.iter().map(|(row, _)| *row).collect();
    assert_eq!(numbers.pop(), Some(1), "the slow row comes last");
    numbers.sort_unstable();
    assert_eq!(numbers, [3, 4], "a row's number is its line's");
    for (row, reply) in &output {
        assert_eq!(reply["kickoff_id"], format!("{batch}-{row}"));
        assert_eq!(reply["status"], if *row == 4 { "failed" } else { "succeeded" });
    }

    // All is answered: nothing runs again, a failed row neither.
    bakery.run().await.ended_with(1).said(&["3 of 3 rows answered"]);
    assert_eq!(bakery.output().len(), 3);
    assert!(
        bakery.runs().values().all(|runs| *runs == 1),
        "{:?}",
        bakery.runs()
    );
}

#[tokio::test]
async fn a_batch_that_is_killed_again_and_again_runs_every_row_once() {
    let bakery = Bakery::open().await;
    bakery.write_rows(40, 27);
    for answered in [4, 13, 26] {
        let running = bakery.spawn(&[]);
        bakery.has_lines("out.jsonl", answered).await;
        running.signal(Signal::SIGKILL);
        running.exit().await;
    }
    // The last line of the output is torn, as by a full disk: its reply is found again.
    let output = bakery.path("out.jsonl");
    let length = fs::metadata(&output).expect("the output").len();
    let file = fs::File::options().write(true).open(&output).expect("the output");
    file.set_len(length - 10).expect("it is cut");
    bakery.go_on();

    let resumed = bakery.run().await;
    resumed.said(&["40 of 40 rows answered in out.jsonl: 40 succeeded"]);
    assert_eq!(resumed.code, Some(0));
    bakery.assert_each_row_once(40);
}

#[tokio::test]
async fn sigterm_says_how_to_resume_and_only_one_may_write_an_output() {
    let bakery = Bakery::open().await;
    bakery.write_rows(12, 3);
    let running = bakery.spawn(&[]);
    // Two that are done, and eight that wait.
    bakery.has_lines("runs", 10).await;
    bakery.has_lines("out.jsonl", 2).await;
    let second = bakery.run().await.ended_with(2);
    second.said(&["another crewfleet kickoff-for-each", "out.jsonl.journal"]);

    running.signal(Signal::SIGTERM);
    assert_eq!(running.exit().await.code(), Some(8));
    let said = running.stderr.so_far().join("\n");
    assert!(said.contains("2 of 12 rows answered"), "{said}");
    assert!(said.contains("Run the same command again to resume"), "{said}");

    bakery.go_on();
    bakery.run().await.success();
    bakery.assert_each_row_once(12);
}

#[tokio::test]
async fn what_is_wrong_with_the_files_is_told_before_anything_is_sent() {
    let bakery = Bakery::open().await;
    let large = format!("{{}}\n{{\"a\": \"{}\"}}\n", "x".repeat(9_000_000));
    for (rows, expected) in [
        ("{\"n\": 1}\n\n{\"n\": }\n", "rows.jsonl:3: the line is not JSON"),
        ("{\"n\": 1}\n[2]\n", "rows.jsonl:2: the line is not a JSON object"),
        (&large, "rows.jsonl:2: "),
    ] {
        bakery.write("rows.jsonl", rows);
        bakery.run().await.ended_with(2).said(&[expected]);
    }
    fs::remove_file(bakery.path("rows.jsonl")).expect("it is removed");
    bakery.run().await.ended_with(2).said(&["rows.jsonl"]);
    assert!(bakery.runs().is_empty() && bakery.output().is_empty());

    bakery.write("rows.jsonl", "");
    let nothing = bakery.run().await;
    nothing.said(&["0 of 0 rows answered"]);
    nothing.success();

    // Once sent, a row may not become another.
    bakery.write_rows(3, 4);
    bakery.run().await.success();
    bakery.write("rows.jsonl", "{\"n\": 1}\n{\"n\": 2}\n{\"n\": 4}\n");
    bakery
        .run()
        .await
        .ended_with(2)
        .said(&["rows.jsonl:1: row 1 was changed"]);
    bakery.write_rows(2, 4);
    bakery
        .run()
        .await
        .ended_with(2)
        .said(&["out.jsonl knows rows that rows.jsonl does not have"]);
    bakery.write_rows(3, 4);
    bakery.assert_each_row_once(3);

    // Somebody else's file is left as it is.
    bakery.write("out.jsonl", "important notes\n");
    bakery
        .run()
        .await
        .ended_with(2)
        .said(&["out.jsonl:1: not a line of kickoff-for-each"]);
    assert_eq!(
        fs::read_to_string(bakery.path("out.jsonl")).expect("the notes"),
        "important notes\n"
    );
}

#[tokio::test]
async fn rows_that_did_not_succeed_are_run_again() {
    let bakery = Bakery::open().await;
    bakery.write("rows.jsonl", "{\"n\": 1}\n{\"n\": 2, \"fail\": true}\n");
    bakery.run().await.ended_with(1).said(&["--retry-failed"]);
    // Mended, which is what most failures need.
    bakery.write("rows.jsonl", "{\"n\": 1}\n{\"n\": 2}\n");
    let again = bakery.spawn(&["--retry-failed"]).output().await.ended_with(0);
    again.said(&["2 of 2 rows answered"]);
    let output = fs::read_to_string(bakery.path("out.jsonl")).unwrap();
    let lines: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of_row = |row: u64| lines.iter().filter(|line| line["row"] == row).collect::<Vec<_>>();
    assert_eq!((of_row(1).len(), of_row(2).len()), (1, 2), "{output}");
    let last = of_row(2)[1];
    assert_eq!(
        (&last["status"], &last["result"]["json"]),
        (&json!("succeeded"), &json!({"n": 2}))
    );
    assert!(last["kickoff_id"].as_str().unwrap().ends_with("-2-r1"), "{last}");
    let runs = fs::read_to_string(bakery.path("runs")).unwrap();
    assert_eq!(runs.lines().count(), 3, "{runs}");
    // There is nothing left to do.
    bakery.spawn(&["--retry-failed"]).output().await.ended_with(0);
    assert_eq!(fs::read_to_string(bakery.path("out.jsonl")).unwrap(), output);
}

#[tokio::test]
async fn replies_go_to_stdout() {
    let bakery = Bakery::open().await;
    bakery.write("rows.jsonl", "{\"n\": 1}\n{\"n\": 2}\n");
    let command = ["kickoff-for-each", "counted", "-i", "rows.jsonl", "-o", "-"];
    let output = bakery.cli.run(&command).await.ended_with(0);
    output.said(&["answered in stdout"]);
    let mut rows: Vec<_> = output
        .stdout
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON")["row"].as_u64())
        .collect();
    rows.sort_unstable();
    assert_eq!(rows, [Some(1), Some(2)]);
    let left = fs::read_dir(bakery.cli.dir()).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        left.iter().all(|name| !name.to_string_lossy().starts_with('-')),
        "{left:?}"
    );
    let refused = [&command[..], &["--retry-failed"]].concat();
    bakery
        .cli
        .run(&refused)
        .await
        .ended_with(2)
        .said(&["stdout keeps nothing"]);
}
