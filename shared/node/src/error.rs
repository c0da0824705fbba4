use std::{io, path::PathBuf, time::Duration};

use crate::install;

/// The environment variable that names the folder of RabbitMQ's programs, where it is not Debian's.
pub const BIN_DIR_VARIABLE: &str = "CREWFLEET_RABBITMQ_BIN_DIR";

/// What can go wrong with a private node. Each message says what was tried, on what, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// RabbitMQ is not installed where it was looked for.
    #[error(
        "RabbitMQ is not installed: {} was not found. To install it: `{}`. Or use a broker that runs already, by \
         CREWFLEET__BROKER__URL; or name the folder of another installation's programs in {}",
        .looked_for.display(),
        install::command(),
        BIN_DIR_VARIABLE
    )]
    NotInstalled {
        /// The program that should have been there.
        looked_for: PathBuf,
    },

    /// A file or folder of the node could not be read or written.
    #[error("could not {action} {}: {source}. The node needs a folder of its own that this user may write to", .path.display())]
    Folder {
        /// What was to be done, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },

    /// Another node runs in the folder.
    #[error(
        "a private RabbitMQ node already runs in {}. Stop the process that owns it (another `crewfleet dev`?), or use \
         another folder",
        .dir.display()
    )]
    InUse {
        /// The folder.
        dir: PathBuf,
    },

    /// The port that was asked for is taken.
    #[error("port {port} on 127.0.0.1 is taken ({source}). Stop what listens there, or ask for another port")]
    PortTaken {
        /// The port.
        port: u16,
        /// What the operating system said.
        source: io::Error,
    },

    /// No block of free ports was found.
    #[error(
        "found no four free ports in a row between {from} and {to} on 127.0.0.1. Are they firewalled, or all in use?"
    )]
    NoFreePorts {
        /// The lowest port that was tried.
        from: u16,
        /// One past the highest port that was tried.
        to: u16,
    },

    /// The node did not come up.
    #[error("the private RabbitMQ node in {} did not start: {reason}. The end of its log ({}/node.log):\n{log_tail}", .dir.display(), .dir.display())]
    Start {
        /// The node's folder.
        dir: PathBuf,
        /// Why it is held to have failed.
        reason: String,
        /// The last lines of its log.
        log_tail: String,
    },

    /// The node did not stop in time, and was killed.
    #[error(
        "the private RabbitMQ node in {} did not stop within {after:?} and was killed. The end of its log:\n{log_tail}",
        .dir.display()
    )]
    Stop {
        /// The node's folder.
        dir: PathBuf,
        /// How long it had.
        after: Duration,
        /// The last lines of its log.
        log_tail: String,
    },

    /// A command to the node failed.
    #[error("`{command}` failed: {reason}")]
    Command {
        /// `rabbitmqctl` with its arguments, or `erl_call` with the expressions.
        command: String,
        /// How it failed, with its output.
        reason: String,
    },

    /// A program that the node needs could not be run.
    #[error("could not run `{program}`: {source}. It comes with the Debian package {package}")]
    Spawn {
        /// The program.
        program: String,
        /// The package that has it.
        package: &'static str,
        /// What the operating system said.
        source: io::Error,
    },
}

impl NodeError {
    pub(super) fn command(command: String, reason: String) -> Self {
        Self::Command { command, reason }
    }

    /// Whether other ports may help: something took one of the node's between the choice and the start.
    pub(super) fn is_port_conflict(&self) -> bool {
        match self {
            Self::Start { log_tail, .. } => {
                let log_tail = log_tail.to_lowercase();
                ["eaddrinuse", "in use by"]
                    .iter()
                    .any(|sign| log_tail.contains(sign))
            }
            _ => false,
        }
    }
}
