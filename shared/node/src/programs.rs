//! Where RabbitMQ's programs are.

use std::path::PathBuf;

use super::error::{BIN_DIR_VARIABLE, NodeError};

/// Where Debian has them. Those in `/usr/sbin` insist on being root or the user `rabbitmq`.
const BIN_DIR: &str = "/usr/lib/rabbitmq/bin";

/// The folder of the programs.
///
/// # Errors
/// [`NodeError::NotInstalled`].
pub(crate) fn find() -> Result<PathBuf, NodeError> {
    let bin = std::env::var_os(BIN_DIR_VARIABLE).map_or_else(|| PathBuf::from(BIN_DIR), PathBuf::from);
    let looked_for = bin.join("rabbitmq-server");
    if looked_for.exists() {
        Ok(bin)
    } else {
        Err(NodeError::NotInstalled { looked_for })
    }
}
