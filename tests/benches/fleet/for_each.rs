//! A batch: from a file of inputs to a file of replies.

use std::{fmt::Write, fs, process::Command, time::Duration};

use anyhow::ensure;
use crewfleet_tests::process::Process;
use tokio::time::Instant;

use crate::{
    collect,
    cycle::{CREW, REQUEST_BYTES, Sides},
    figures::{Report, Target},
    load,
    site::Site,
};

const ROWS: usize = 20_000;
const WINDOW: &str = "2000";

/// Measures all of it.
pub(crate) async fn measure(site: &Site, pairs: usize, report: &mut Report) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (input, output) = (dir.path().join("rows.jsonl"), dir.path().join("replies.jsonl"));
    let row = String::from_utf8(load::inputs(REQUEST_BYTES))?;
    let mut rows = String::new();
    for _ in 0..ROWS {
        writeln!(rows, "{row}")?;
    }
    fs::write(&input, rows)?;
    site.keep_results(true).await?;
    let _worker = Sides::new(site).await?.worker(true).await;
    let paths = [input.display().to_string(), output.display().to_string()];
    let mut runs = Vec::new();
    for _ in 0..pairs {
        let arguments = [
            "kickoff-for-each",
            CREW,
            "--inputs",
            &paths[0],
            "--output",
            &paths[1],
        ];
        let fleet = site
            .cli()
            .spawn(&[&arguments[..], &["--concurrency", WINDOW]].concat());
        let fleet = lasts(fleet).await?;
        ensure!(lines(&paths[1])? == ROWS, "the batch has not answered every row");
        fs::remove_file(&output)?;
        fs::remove_file(format!("{}.journal", paths[1]))?;

        let mut bare = Command::new(std::env::current_exe()?);
        bare.args([collect::ARGUMENT, &site.url(), CREW]);
        bare.args([
            site.namespace.exchange("requests"),
            site.namespace.exchange("replies"),
        ]);
        bare.arg(WINDOW).args(&paths);
        let bare = lasts(Process::spawn("collector", &bare, b"")).await?;
        ensure!(
            lines(&paths[1])? == ROWS,
            "the collector has not collected every reply"
        );
        fs::remove_file(&output)?;
        let rate = |took: Duration| ROWS as f64 / took.as_secs_f64();
        runs.push((rate(fleet), rate(bare)));
    }
    let name = "kickoff-for-each, rows/s";
    report.against(
        name,
        &runs,
        "bare publish and collect",
        Some(Target::AtLeast(0.9)),
    );
    Ok(())
}

async fn lasts(process: Process) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    ensure!(
        process.exit().await.success(),
        "it failed: {}",
        process.stderr.tail()
    );
    Ok(begin.elapsed())
}

fn lines(path: &str) -> anyhow::Result<usize> {
    Ok(fs::read_to_string(path)?.lines().count())
}
