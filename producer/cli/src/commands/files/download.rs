//! Files on their way to this machine. Nothing of a reply decides where they go but below the folder that was named,
//! and a file is there under its name only when it is complete and right.

use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use crewfleet::{KickoffClient, Reply};
use crewfleet_protocol::result_file::stays_below;
use futures_util::TryStreamExt;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tempfile::NamedTempFile;

const BAR: &str = "{bar:32} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {msg}";

/// Fetches files of one kickoff.
pub(crate) struct Download<'a> {
    client: &'a KickoffClient,
    reply: &'a Reply,
    force: bool,
    bar: Option<ProgressBar>,
}

impl<'a> Download<'a> {
    /// Of so many bytes together; `force` replaces what is there.
    pub(super) fn new(client: &'a KickoffClient, reply: &'a Reply, force: bool, bytes: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr()).with_style(style)
        });
        Self {
            client,
            reply,
            force,
            bar,
        }
    }

    /// Refuses a place that is taken.
    pub(super) fn free(&self, target: &Path) -> anyhow::Result<()> {
        match fs::symlink_metadata(target) {
            Ok(found) if found.is_dir() => bail!("{} is a folder; name another place", target.display()),
            Ok(_) if !self.force => {
                bail!("{} is there already; --force replaces it", target.display())
            }
            _ => Ok(()),
        }
    }

    /// Fetches the file of this path to a place.
    pub(super) async fn file(&mut self, path: &str, target: &Path) -> anyhow::Result<()> {
        let mut content = self.client.file(self.reply, path).await?.into_stream();
        let cannot = || format!("cannot write {}", target.display());
        // Beside its place, where a rename is all that is left to do.
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut file = tempfile::Builder::new()
            .prefix(".crewfleet-")
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(folder.unwrap_or(Path::new(".")))
            .with_context(cannot)?;
        if let Some(bar) = &self.bar {
            bar.set_message(path.escape_default().to_string());
        }
        while let Some(bytes) = content.try_next().await? {
            file.write_all(&bytes).with_context(cannot)?;
            if let Some(bar) = &self.bar {
                bar.inc(bytes.len() as u64);
            }
        }
        self.place(file, target).with_context(cannot)
    }

    fn place(&self, file: NamedTempFile, target: &Path) -> std::io::Result<()> {
        let placed = match self.force {
            true => file.persist(target),
            false => file.persist_noclobber(target),
        };
        placed.map(drop).map_err(|error| error.error)
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The place of a file below a folder; the folders on the way are made. A link on the way is refused: it may lead out.
pub(super) fn below(dir: &Path, path: &str) -> anyhow::Result<PathBuf> {
    if !stays_below(path) {
        bail!(
            "{path:?} does not stay below {}; nothing is written",
            dir.display()
        );
    }
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut place = dir.to_owned();
    let parts: Vec<&str> = path.split('/').collect();
    for (number, part) in parts.iter().enumerate() {
        place.push(part);
        if number + 1 == parts.len() {
            break;
        }
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => {}
            Ok(found) if found.is_symlink() => bail!("{} is a link, and may lead elsewhere", place.display()),
            Ok(_) => bail!("{} is there already, and is no folder", place.display()),
            Err(_) => fs::create_dir(&place).with_context(|| format!("cannot make {}", place.display()))?,
        }
    }
    Ok(place)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_path_leaves_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        assert_eq!(below(&out, "a/b/c.md").unwrap(), out.join("a/b/c.md"));
        assert!(out.join("a/b").is_dir());
        symlink(dir.path(), out.join("link")).unwrap();
        fs::write(out.join("file"), "").unwrap();
        for path in ["../x", "/etc/x", "a/../../x", "", "link/x", "file/x"] {
            assert!(below(&out, path).is_err(), "{path}");
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
