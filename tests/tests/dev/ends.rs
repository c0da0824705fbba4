//! How it ends, and what becomes of workers that end before it.

use super::*;

#[tokio::test]
async fn ctrl_c_while_it_starts_is_answered() {
    let place = Place::new();
    let dev = place.plain_crew(&[]);
    dev.stderr
        .first("that it starts", |line| {
            line.contains("starting 2 workers with").then_some(())
        })
        .await;
    dev.signal(Signal::SIGINT);
    let output = dev.output().await.ended_with(0);
    output.said(&["ending ...", "ended; nothing is left running"]);
    let place_is_empty = place.parts().iter().all(BTreeSet::is_empty);
    assert!(place_is_empty, "{:?}", place.parts());
}

#[tokio::test]
async fn a_killed_worker_is_started_again_and_nothing_outlives_a_killed_dev() {
    let place = Place::new();
    let dev = place.plain_crew(&[]);
    keeps_running(&dev).await;

    // A worker that is killed is started again.
    let before = place.processes_of("worker-1");
    for pid in &before {
        // Its Python may have ended with it meanwhile.
        let _ = kill(*pid, Signal::SIGKILL);
    }
    dev.stderr
        .first("the death", |line| {
            line.contains("worker-1 has ended").then_some(())
        })
        .await;
    let again = |worker: &str| {
        let log = fs::read_to_string(place.work().join(".crewfleet/dev").join(worker)).ok()?;
        (log.matches("\"message\":\"ready\"").count() == 2).then_some(())
    };
    until("another worker", || again("worker-1.log")).await;

    // So is one whose supervisor is killed.
    let folder = place.work().join(".crewfleet/dev/worker-2");
    let supervisor = supervisor_of(&folder.display().to_string());
    kill(supervisor, Signal::SIGKILL).unwrap();
    dev.stderr
        .first("the other death", |line| {
            line.contains("worker-2 has ended").then_some(())
        })
        .await;
    until("the other worker", || again("worker-2.log")).await;

    dev.signal(Signal::SIGKILL);
    dev.exit().await;
    place.is_clean(&dev, &[".crewfleet", "src"]).await;
}

/// The shell that supervises what runs in a folder: the first of those that it has forked itself into.
fn supervisor_of(folder: &str) -> Pid {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let supervises = |pid: &i32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut arguments = arguments.split(|byte| *byte == 0);
        arguments.any(|argument| argument == b"crewfleet-supervisor")
            && arguments.next() == Some(folder.as_bytes())
    };
    Pid::from_raw(pids.filter(supervises).min().expect("a supervisor"))
}
