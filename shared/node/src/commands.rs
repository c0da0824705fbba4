//! What a node is told from outside: by `rabbitmqctl`, and in Erlang.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::supervisor::SUPERVISED_VARIABLE;
use crate::{Node, NodeError};

const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

impl Node {
    /// Runs `rabbitmqctl` on this node, and returns what it prints on stdout.
    ///
    /// It starts an Erlang VM of its own, which costs a second of a core: [`Node::eval`] does not.
    ///
    /// # Errors
    /// When it cannot be run, takes over a minute, or ends with another status than 0.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String, NodeError> {
        let command = || format!("rabbitmqctl {}", arguments.join(" "));
        let mut rabbitmqctl = Command::new(self.bin.join("rabbitmqctl"));
        rabbitmqctl.arg("--quiet").args(arguments);
        let output = self.output(rabbitmqctl, "").await;
        let output = output.map_err(|reason| NodeError::command(command(), reason))?;
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(NodeError::command(command(), said(&output))),
        }
    }

    /// Has the node evaluate Erlang, and returns the value of the last expression, printed as `rabbitmqctl eval` prints
    /// it. Expressions are separated by commas; no full stop ends them.
    ///
    /// # Errors
    /// When Erlang's `erl_call` cannot be run or does not reach the node, when an expression fails, or when all takes over
    /// a minute.
    pub async fn eval(&self, expressions: &str) -> Result<String, NodeError> {
        /// What `erl_call` adds of itself: the value of `io:format`.
        const PRINTED: &str = "{ok, ok}";
        let failed = |reason| NodeError::command(format!("erl_call: {expressions}"), reason);
        let mut erl_call = Command::new("erl_call");
        erl_call.args(["-sname", &self.name(), "-fetch_stdout", "-e"]);
        let program = format!("io:format(\"~p\", [begin {expressions} end]).\n");
        let output = self.output(erl_call, &program).await.map_err(failed)?;
        // It ends with 0 also where the expression has failed.
        let printed = text(&output.stdout);
        match printed.strip_suffix(PRINTED) {
            Some(value) if output.status.success() => Ok(value.to_owned()),
            _ => Err(failed(said(&output))),
        }
    }

    /// Waits until the node has started whatever it is to run: it answers clients before its plugins are up.
    ///
    /// # Errors
    /// As [`Node::eval`].
    pub async fn await_startup(&self) -> Result<(), NodeError> {
        self.eval("rabbit:await_startup()").await.map(|_| ())
    }

    /// Writes what RabbitMQ keeps of the names of its queues to disk now. It does so by itself with a delay of up to 3
    /// s: a quorum queue that was declared just before [`Node::kill`] is without a leader for ever after it.
    ///
    /// # Errors
    /// As [`Node::eval`].
    pub async fn sync_names(&self) -> Result<(), NodeError> {
        self.eval("[dets:sync(Table) || Table <- dets:all()]")
            .await
            .map(|_| ())
    }

    /// What comes of a command in the node's environment, which gets this on stdin.
    async fn output(&self, mut command: Command, stdin: &str) -> Result<Output, String> {
        command
            .env_clear()
            .envs(self.environment())
            // The supervisor ends what carries this, should this process be killed meanwhile.
            .env(SUPERVISED_VARIABLE, self.dir())
            .current_dir(self.dir())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = async {
            let mut child = command.spawn()?;
            if let Some(mut pipe) = child.stdin.take() {
                // One that has ended before it reads says why.
                let _ = pipe.write_all(stdin.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        match timeout(COMMAND_TIMEOUT, output).await {
            Ok(output) => output.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no end within {COMMAND_TIMEOUT:?}")),
        }
    }
}

fn said(output: &Output) -> String {
    let said = text(&output.stdout) + &text(&output.stderr);
    format!("{}: {}", output.status, said.trim())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
