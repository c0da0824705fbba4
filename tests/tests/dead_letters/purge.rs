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
