//! Asking before something is done that cannot be undone, or that costs.

use std::io::{BufRead, IsTerminal};

use crate::output::say;

/// Whether there is a terminal with somebody at it.
pub(super) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Asks on the terminal. No letter is held meanwhile.
pub(super) async fn agreed(question: &str) -> bool {
    say(&format!("{question} Type yes:"));
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    matches!(answer.await, Ok(Ok(line)) if ["y", "yes"].contains(&line.trim().to_lowercase().as_str()))
}
