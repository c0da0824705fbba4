//! What the webhooks of `crewfleet dev` are signed by, where the configuration does not say.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use crewfleet_sinks::SinksConfig;

use super::folder::Folder;

/// How many bytes it has, as `openssl rand -base64 32` makes them.
const BYTES: usize = 32;

/// Makes a secret where there is none, and keeps it for the next run. Returns its file where it is ours.
///
/// # Errors
/// When it cannot be made or kept.
pub(crate) fn ensure(folder: &Folder, sinks: &mut SinksConfig) -> anyhow::Result<Option<PathBuf>> {
    if sinks.webhooks.has_secret() {
        return Ok(None);
    }
    let file = folder.join("webhook-secret");
    let cannot = || format!("cannot write {}", file.display());
    match OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&file)
    {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        opened => {
            let mut secret = [0; BYTES];
            getrandom::fill(&mut secret).context("there is nothing random to make a secret of")?;
            let line = format!("whsec_{}\n", STANDARD.encode(secret));
            opened
                .and_then(|mut opened| opened.write_all(line.as_bytes()))
                .with_context(cannot)?;
        }
    }
    sinks.webhooks.secret_file = Some(file.clone());
    Ok(Some(file))
}
