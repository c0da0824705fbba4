//! The bearer tokens that callers show. A file keeps their SHA-256 alone: a token is 256 random bits, so nobody finds
//! one that fits.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::on_disk::{locked, replace, target};
use super::token::Token;

/// What a token begins with, so that a scanner of secrets recognises one.
const PREFIX: &str = "crewfleet_";

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
    /// One that the file holds cannot be.
    #[error(
        "[gateway] tokens_file {}: the token {name:?}: {problem}; `crewfleet token revoke` takes it out",
        .file.display()
    )]
    Impossible {
        /// The file.
        file: PathBuf,
        /// The token's name.
        name: String,
        /// What cannot be.
        problem: String,
    },
    /// One that is to be made cannot be.
    #[error("{0}")]
    Refused(String),
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
    /// [`TokensError::Io`], [`TokensError::Unreadable`], [`TokensError::Impossible`].
    pub fn read(&self) -> Result<Vec<Token>, TokensError> {
        let tokens = self.read_unchecked()?;
        for token in &tokens {
            token.check().map_err(|problem| TokensError::Impossible {
                file: self.0.clone(),
                name: token.name.clone(),
                problem,
            })?;
        }
        Ok(tokens)
    }

    fn read_unchecked(&self) -> Result<Vec<Token>, TokensError> {
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

    /// Keeps this token, and gives its secret, which is the only time it is seen.
    ///
    /// # Errors
    /// [`TokensError`].
    pub fn create(&self, token: Token) -> Result<SecretString, TokensError> {
        token.check().map_err(TokensError::Refused)?;
        let secret = random()?;
        self.change(|tokens| {
            if tokens.iter().any(|other| other.name == token.name) {
                return Err(TokensError::Exists(token.name.clone()));
            }
            tokens.push(Token {
                sha256: hash(secret.expose_secret()),
                ..token
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
        let target = target(&self.0).map_err(io)?;
        let _lock = locked(&target).map_err(io)?;
        // One that cannot be can be taken out.
        let mut tokens = Self(target.clone()).read_unchecked()?;
        change(&mut tokens)?;
        let text = serde_json::to_string_pretty(&tokens).map_err(|e| io(e.into()))?;
        replace(&target, &text).map_err(io)
    }

    fn io(&self, cause: io::Error) -> TokensError {
        TokensError::Io {
            file: self.0.clone(),
            cause,
        }
    }
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
    use crewfleet_protocol::CrewName;

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
        let all = file.create(Token::named("all")).unwrap();
        let of_one = Token {
            crews: Some(vec![crew.to_string()]),
            ..Token::named("one")
        };
        let one = file.create(of_one).unwrap();
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
        file.create(Token::named("ci")).unwrap();
        assert!(matches!(
            file.create(Token::named("ci")),
            Err(TokensError::Exists(_))
        ));
        file.revoke("ci").unwrap();
        assert!(matches!(file.revoke("ci"), Err(TokensError::Unknown(_))));
        assert!(file.read().unwrap().is_empty());
    }

    #[test]
    fn behind_a_link_the_file_is_changed_and_what_is_no_name_or_no_file_is_told() {
        let (dir, file) = file();
        let link = dir.path().join("link.json");
        std::os::unix::fs::symlink(&file.0, &link).unwrap();
        file.create(Token::named("first")).unwrap();
        TokensFile::new(&link).create(Token::named("second")).unwrap();
        assert!(link.is_symlink());
        assert_eq!(file.read_existing().unwrap().len(), 2);
        let nameless = file.create(Token::named(""));
        assert!(matches!(nameless, Err(TokensError::Refused(_))));
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
        TokensFile::new(&first).create(Token::named("ci")).unwrap();
        assert!(first.is_symlink() && second.is_symlink());
        assert!(file.0.is_file() && file.read().unwrap().len() == 1);
        let circle = dir.path().join("circle");
        std::os::unix::fs::symlink("circle", &circle).unwrap();
        let refused = TokensFile::new(&circle).create(Token::named("ci"));
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
                scope.spawn(move || file.create(Token::named(&number.to_string())).unwrap());
            }
        });
        assert_eq!(file.read().unwrap().len(), 16);
        assert!(!dir.path().join("link.json.lock").exists());
    }

    #[test]
    fn what_is_no_list_of_tokens_is_left_alone() {
        let (_dir, file) = file();
        fs::write(&file.0, "{").unwrap();
        let refused = file.create(Token::named("ci")).unwrap_err().to_string();
        assert!(refused.contains("tokens.json"), "{refused}");
        assert_eq!(fs::read_to_string(&file.0).unwrap(), "{");
    }

    #[test]
    fn a_token_that_cannot_be_is_told_by_its_name_and_can_be_taken_out() {
        let (_dir, file) = file();
        file.create(Token::named("good")).unwrap();
        file.create(Token::named("bad")).unwrap();
        let text = fs::read_to_string(&file.0).unwrap();
        let (head, tail) = text.rsplit_once("\"crews\": null").unwrap();
        fs::write(
            &file.0,
            format!("{head}\"crews\": null, \"max_concurrent\": 0{tail}"),
        )
        .unwrap();
        let told = file.read().unwrap_err().to_string();
        assert!(
            told.contains("\"bad\"") && told.contains("max_concurrent"),
            "{told}"
        );
        file.revoke("bad").unwrap();
        assert_eq!(file.read().unwrap().len(), 1);
    }

    #[test]
    fn many_who_change_it_at_once_lose_nothing() {
        let (_dir, file) = file();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let file = &file;
                scope.spawn(move || file.create(Token::named(&number.to_string())).unwrap());
            }
        });
        assert_eq!(file.read().unwrap().len(), 8);
    }
}
