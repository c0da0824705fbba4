//! What `crewfleet completions` writes is read by the shells themselves, as far as this machine has them.

use std::process::Command;

use crewfleet_tests::broker::Namespace;
use crewfleet_tests::cli::Cli;
use crewfleet_tests::process::Process;

#[tokio::test]
async fn completions_are_read_by_their_shells() {
    // No broker is asked.
    let cli = Cli::new("amqp://127.0.0.1:1/%2f", &Namespace::new());
    let mut read = 0;
    for (shell, only_reads) in [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")] {
        let script = cli.run(&["completions", shell]).await.success();
        assert!(
            script.contains("crewfleet") && script.contains("kickoff-for-each"),
            "{shell}"
        );
        if Command::new(shell).arg("-c").arg("true").output().is_err() {
            eprintln!("not tried: there is no {shell}");
            continue;
        }
        let file = cli.dir().join(shell);
        std::fs::write(&file, script).unwrap();
        let mut command = Command::new(shell);
        command.arg(only_reads).arg(&file);
        let output = Process::spawn(shell, &command, b"").output().await.ended_with(0);
        assert!(output.stderr.is_empty(), "{output:?}");
        read += 1;
    }
    assert!(read > 0, "bash is on every machine of ours");
}
