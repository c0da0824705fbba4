//! The bearer tokens that callers show. A file keeps their SHA-256 alone: a token is 256 random bits, so nobody finds
//! one that fits.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use chrono::{DateTime, SubsecRound, Utc};
use crewfleet_protocol::CrewName;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// What a token begins with, so that a scanner of secrets recognises one.
const PREFIX: &str = "crewfleet_";
/// So many links are followed from one to the next, as Linux does.
const MOST_LINKS: usize = 40;

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Whose it is; unique in the file.
    pub name: String,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
    /// The crews that it is good for; `null` for all.
    pub crews: Option<Vec<String>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl Token {
    /// Whether it is good for `crew`.
    pub fn allows(&self, crew: &CrewName) -> bool {
        let crews = self.crews.as_ref();
        crews.is_none_or(|crews| crews.iter().any(|name| name == crew.as_str()))
    }
}

/// Why the tokens' file cannot be used, or is not changed.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read or written.
    #[error("[gateway] tokens_file {}: {cause}", .file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It is no list of tokens.
    #[error("[gateway] tokens_file {}: {cause}; only `crewfleet token` writes it", .file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        cause: serde_json::Error,
    },
    /// There is no file.
    #[error(
        "there is no file {} ([gateway] tokens_file, from where you stand); `crewfleet token create NAME --crew CREW` makes it",
        .0.display()
    )]
    Missing(PathBuf),
    /// A name that would be another in a list or a log.
    #[error("{0:?} is no name for a token: it must be 1 to 64 characters, and no control characters")]
    Name(String),
    /// A token of that name is there.
    #[error("there is a token named {0:?} already; choose another name, or revoke it first")]
    Exists(String),
    /// No token of that name is there.
    #[error("there is no token named {0:?}; `crewfleet token list` lists those that exist")]
    Unknown(String),
}

/// The file with the tokens.
#[derive(Debug, Clone)]
pub struct TokensFile(PathBuf);

impl TokensFile {
    /// The file of this name; it need not exist.
    pub fn new(file: &Path) -> Self {
        Self(file.to_owned())
    }

    /// What it holds; nothing when it does not exist.
    ///
    /// # Errors
    /// [`TokensError::Io`], [`TokensError::Unreadable`].
    pub fn read(&self) -> Result<Vec<Token>, TokensError> {
        match fs::read(&self.0) {
            Ok(text) => serde_json::from_slice(&text).map_err(|cause| TokensError::Unreadable {
                file: self.0.clone(),
                cause,
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(cause) => Err(self.io(cause)),
        }
    }

    /// The same of a file that should be there.
    ///
    /// # Errors
    /// [`TokensError::Missing`], and those of [`Self::read`].
    pub fn read_existing(&self) -> Result<Vec<Token>, TokensError> {
        match self.0.exists() {
            true => self.read(),
            false => Err(TokensError::Missing(self.place())),
        }
    }

    /// Where it is, for whoever stands elsewhere.
    pub fn place(&self) -> PathBuf {
        std::path::absolute(&self.0).unwrap_or_else(|_| self.0.clone())
    }

    /// Makes a token for `name`, good for these crews, else for all; and gives it, which is the only time it is seen.
    ///
    /// # Errors
    /// [`TokensError`].
    pub fn create(&self, name: &str, crews: Option<&[CrewName]>) -> Result<SecretString, TokensError> {
        let printable = name.chars().all(|c| !c.is_control());
        if !printable || !(1..=64).contains(&name.chars().count()) {
            return Err(TokensError::Name(name.to_owned()));
        }
        let secret = random()?;
        self.change(|tokens| {
            if tokens.iter().any(|token| token.name == name) {
                return Err(TokensError::Exists(name.to_owned()));
            }
            tokens.push(Token {
                name: name.to_owned(),
                sha256: hash(secret.expose_secret()),
                crews: crews.map(|crews| crews.iter().map(ToString::to_string).collect()),
                created_at: Utc::now().trunc_subsecs(0),
            });
            Ok(())
        })?;
        Ok(secret)
    }

    /// Takes the token of `name` out.
    ///
    /// # Errors
    /// [`TokensError`].
    pub fn revoke(&self, name: &str) -> Result<(), TokensError> {
        self.change(|tokens| {
            let before = tokens.len();
            tokens.retain(|token| token.name != name);
            match tokens.len() == before {
                true => Err(TokensError::Unknown(name.to_owned())),
                false => Ok(()),
            }
        })
    }

    /// Changes the file as a whole; two who change it at once do so one after the other.
    fn change(
        &self,
        change: impl FnOnce(&mut Vec<Token>) -> Result<(), TokensError>,
    ) -> Result<(), TokensError> {
        let io = |cause| self.io(cause);
        // Behind a link it is the file that changes, and not the link; and whoever comes by another way is kept out.
        let target = self.target().map_err(io)?;
        let _lock = lock(&target).map_err(io)?;
        let mut tokens = Self(target.clone()).read()?;
        change(&mut tokens)?;
        let text = serde_json::to_string_pretty(&tokens).map_err(|e| io(e.into()))?;
        // For all to read: a gateway is not run by whoever makes tokens, and a hash of random bits tells nobody
        // anything. Whatever the umask.
        let mut new = NamedTempFile::new_in(folder(&target)).map_err(io)?;
        let for_all = Permissions::from_mode(0o644);
        new.as_file().set_permissions(for_all).map_err(io)?;
        new.write_all(text.as_bytes()).map_err(io)?;
        new.write_all(b"\n").map_err(io)?;
        new.as_file().sync_all().map_err(io)?;
        new.persist(&target).map_err(|e| io(e.error))?;
        Ok(())
    }

    /// The file itself, where this is a link, or a link to one; it need not exist.
    fn target(&self) -> io::Result<PathBuf> {
        let mut file = self.0.clone();
        for _ in 0..MOST_LINKS {
            match fs::read_link(&file) {
                Ok(next) => file = folder(&file).join(next),
                // What is there is no link, or nothing is there.
                Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotFound) => {
                    return Ok(file);
                }
                Err(e) => return Err(e),
            }
        }
        Err(io::Error::other(
            "it is a link to a link, and so on without an end",
        ))
    }

    fn io(&self, cause: io::Error) -> TokensError {
        TokensError::Io {
            file: self.0.clone(),
            cause,
        }
    }
}

/// Held until it is dropped. A file beside the other, since that is replaced.
fn lock(file: &Path) -> io::Result<File> {
    let mut name = file.to_owned().into_os_string();
    name.push(".lock");
    let mut options = OpenOptions::new();
    let lock = options
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(name)?;
    lock.lock()?;
    Ok(lock)
}

fn folder(file: &Path) -> &Path {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

fn random() -> Result<SecretString, TokensError> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).map_err(|e| TokensError::Io {
        file: "the system's random numbers".into(),
        cause: e.into(),
    })?;
    Ok(format!("{PREFIX}{}", hex::encode(bits)).into())
}

/// What the file keeps of a token.
pub(crate) fn hash(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn file() -> (tempfile::TempDir, TokensFile) {
        let dir = tempfile::tempdir().unwrap();
        let file = TokensFile::new(&dir.path().join("tokens.json"));
        (dir, file)
    }

    #[test]
    fn the_file_knows_a_token_by_its_hash_alone() {
        let (_dir, file) = file();
        let crew = CrewName::parse("marketing").unwrap();
        let all = file.create("all", None).unwrap();
        let one = file.create("one", Some(std::slice::from_ref(&crew))).unwrap();
        let text = fs::read_to_string(&file.0).unwrap();
        for secret in [&all, &one] {
            let secret = secret.expose_secret().strip_prefix(PREFIX).unwrap();
            assert_eq!(secret.len(), 64);
            assert!(!text.contains(secret));
        }
        let other = CrewName::parse("other").unwrap();
        let kept = file.read().unwrap();
        assert!(kept[0].allows(&other) && kept[0].sha256 == hash(all.expose_secret()));
        assert!(kept[1].allows(&crew) && !kept[1].allows(&other));
    }

    #[test]
    fn names_are_unique_and_a_revoked_token_is_gone() {
        let (_dir, file) = file();
        file.create("ci", None).unwrap();
        assert!(matches!(file.create("ci", None), Err(TokensError::Exists(_))));
        file.revoke("ci").unwrap();
        assert!(matches!(file.revoke("ci"), Err(TokensError::Unknown(_))));
        assert!(file.read().unwrap().is_empty());
    }

    #[test]
    fn behind_a_link_the_file_is_changed_and_what_is_no_name_or_no_file_is_told() {
        let (dir, file) = file();
        let link = dir.path().join("link.json");
        std::os::unix::fs::symlink(&file.0, &link).unwrap();
        file.create("first", None).unwrap();
        TokensFile::new(&link).create("second", None).unwrap();
        assert!(link.is_symlink());
        assert_eq!(file.read_existing().unwrap().len(), 2);
        for name in ["", "a\nb", "\u{1b}[31m", &"x".repeat(65)] {
            assert!(
                matches!(file.create(name, None), Err(TokensError::Name(_))),
                "{name:?}"
            );
        }
        let missing = TokensFile::new(&dir.path().join("none.json")).read_existing();
        let told = missing.unwrap_err().to_string();
        assert!(
            told.contains("none.json") && told.contains("token create"),
            "{told}"
        );
    }

    #[test]
    fn a_link_to_a_file_that_is_not_there_yet_stays_one() {
        let (dir, file) = file();
        fs::create_dir(dir.path().join("links")).unwrap();
        let (first, second) = (dir.path().join("links/first"), dir.path().join("links/second"));
        std::os::unix::fs::symlink("second", &first).unwrap();
        std::os::unix::fs::symlink("../tokens.json", &second).unwrap();
        TokensFile::new(&first).create("ci", None).unwrap();
        assert!(first.is_symlink() && second.is_symlink());
        assert!(file.0.is_file() && file.read().unwrap().len() == 1);
        let circle = dir.path().join("circle");
        std::os::unix::fs::symlink("circle", &circle).unwrap();
        let refused = TokensFile::new(&circle).create("ci", None);
        assert!(matches!(refused, Err(TokensError::Io { .. })) && circle.is_symlink());
    }

    #[test]
    fn who_comes_by_a_link_and_who_comes_by_the_file_wait_for_each_other() {
        let (dir, file) = file();
        let link = dir.path().join("link.json");
        std::os::unix::fs::symlink("tokens.json", &link).unwrap();
        let by_link = TokensFile::new(&link);
        std::thread::scope(|scope| {
            for number in 0..16 {
                let file = if number % 2 == 0 { &file } else { &by_link };
                scope.spawn(move || file.create(&number.to_string(), None).unwrap());
            }
        });
        assert_eq!(file.read().unwrap().len(), 16);
        assert!(!dir.path().join("link.json.lock").exists());
    }

    #[test]
    fn what_is_no_list_of_tokens_is_left_alone() {
        let (_dir, file) = file();
        fs::write(&file.0, "{").unwrap();
        let refused = file.create("ci", None).unwrap_err().to_string();
        assert!(refused.contains("tokens.json"), "{refused}");
        assert_eq!(fs::read_to_string(&file.0).unwrap(), "{");
    }

    #[test]
    fn many_who_change_it_at_once_lose_nothing() {
        let (_dir, file) = file();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let file = &file;
                scope.spawn(move || file.create(&number.to_string(), None).unwrap());
            }
        });
        assert_eq!(file.read().unwrap().len(), 8);
    }
}
