//! The folder of `crewfleet dev`.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Names the folder in place of `.crewfleet`; the scripts in `deploy/` set it to that of their checkout.
const VARIABLE: &str = "CREWFLEET_DIR";
const NAME: &str = ".crewfleet";

/// The example crew, which also tells a checkout of crewfleet from any other folder.
pub(crate) const EXAMPLE: &str = "deploy/examples/marketing/src";

/// `.crewfleet/dev/`: of the checkout around the working directory, else of the working directory itself.
pub(crate) struct Folder {
    path: PathBuf,
    _lock: Option<File>,
}

impl Folder {
    /// Makes it where it is missing, and takes it: it belongs to this process until this is dropped.
    ///
    /// # Errors
    /// When another `crewfleet dev` has it, or it cannot be made.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let shared = Self::shared()?;
        let lock = Some(lock(&shared.path)?);
        Ok(Self {
            _lock: lock,
            ..shared
        })
    }

    /// Makes it where it is missing; for who writes nothing in it that another one may write, too.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn shared() -> anyhow::Result<Self> {
        let home = home()?;
        let path = home.join("dev");
        make_dir(&path)?;
        let ignored = home.join(".gitignore");
        if !ignored.exists() {
            // In somebody's own project nothing of this is to be committed.
            fs::write(&ignored, "*\n").with_context(|| format!("cannot write {}", ignored.display()))?;
        }
        Ok(Self { path, _lock: None })
    }

    /// A file or folder in it.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A folder in it, made where it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn make(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.join(name);
        make_dir(&path)?;
        Ok(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The folder that holds everything crewfleet makes, as an absolute path.
pub(crate) fn home() -> anyhow::Result<PathBuf> {
    let working = std::env::current_dir().context("the working directory cannot be told")?;
    Ok(match std::env::var_os(VARIABLE) {
        Some(given) if !given.is_empty() => working.join(given),
        _ => checkout_around(&working).unwrap_or(&working).join(NAME),
    })
}

/// The checkout of crewfleet: around the working directory, the scripts' own, or around this program.
pub(crate) fn checkout() -> Option<PathBuf> {
    let starts = [
        std::env::current_dir().ok(),
        home().ok(),
        std::env::current_exe().ok(),
    ];
    let mut found = starts.iter().flatten().filter_map(|start| checkout_around(start));
    found.next().map(Path::to_owned)
}

fn checkout_around(start: &Path) -> Option<&Path> {
    start.ancestors().find(|folder| folder.join(EXAMPLE).is_dir())
}

fn make_dir(path: &Path) -> anyhow::Result<()> {
    // What a crew gets and gives is nobody else's business.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| {
        format!(
            "cannot make the folder {}; run this where you may write, or set {VARIABLE}",
            path.display()
        )
    })
}

fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join("lock");
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = opened.with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Who it is helps, but is not needed.
            let _ = file.read_to_string(&mut pid);
            bail!(
                "another `crewfleet dev` (process {}) runs in {}. Use that one from here, as it says in its terminal; end it \
                 with Ctrl-C there; or set {VARIABLE} to another folder",
                pid.trim(),
                folder.display()
            );
        }
        Err(TryLockError::Error(error)) => {
            return Err(error).with_context(|| format!("cannot lock {}", path.display()));
        }
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(file)
}
