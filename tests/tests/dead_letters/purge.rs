//! Purging: what was selected, and only after asking.

use super::*;

#[tokio::test]
async fn purge_removes_what_was_selected_and_asks_first() {
    let place = Place::declared(&["echo"]).await;
    let queue = place.namespace.dead_letters_of("echo");
    for (id, reason) in [("a", "failed"), ("b", "timed_out"), ("c", "timed_out")] {
        place.letter("echo", id, &[("x-kickoff-reason", reason)], 0).await;
    }
    let refused = place.dead_letters(&["purge", "--all", "--crew", "echo"]).await;
    refused.ended_with(2).said(&["--yes"]);
    place.holds(&queue, 3).await;
    let purged = place
        .dead_letters(&["purge", "--reason", "failed", "--yes", "--crew", "echo"])
        .await;
    assert_eq!(purged.success(), "1 purged");
    assert_eq!(counts(&place.groups("echo").await), [("timed_out", 2)]);

    for (answer, left, code) in [("no\n", 2, 1), ("yes\n", 0, 0)] {
        let asked = on_a_terminal(&place, "purge --all --crew echo", answer)
            .await
            .ended_with(code);
        let shown = asked.stdout.join("\n");
        assert!(shown.contains("purge 2 dead letters?"), "{shown}");
        place.holds(&queue, left).await;
    }
}

/// Runs the command on a pseudo terminal, which shows all that it writes, and types an answer.
async fn on_a_terminal(place: &Place, arguments: &str, answer: &str) -> Output {
    let program = binary("crewfleet");
    let line = format!("{} dead-letters {arguments}", program.display());
    let mut command = Command::new("script");
    command
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir(place.cli.dir())
        .env("CREWFLEET__BROKER__URL", broker().await.url())
        .env("CREWFLEET__BROKER__NAMESPACE", place.namespace.to_string());
    Process::spawn("crewfleet on a terminal", &command, answer.as_bytes())
        .output()
        .await
}
