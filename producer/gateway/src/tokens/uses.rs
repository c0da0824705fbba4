//! When tokens were used last. It has a file of its own: the tokens' file is changed by people, and often a gateway may
//! not write it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::on_disk::{beside, locked, replace, target};
use super::token::Token;

/// When each was used last, by name.
pub(crate) type Uses = BTreeMap<String, DateTime<Utc>>;

/// The file with the last uses. Any number of gateways write it.
#[derive(Debug, Clone)]
pub struct UsesFile(PathBuf);

impl UsesFile {
    /// The one of this name, else the one beside the tokens' file.
    pub fn new(named: Option<&Path>, tokens_file: &Path) -> Self {
        Self(match named {
            Some(named) => named.to_owned(),
            None => beside(tokens_file, ".used.json"),
        })
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// When a token was used last, as far as gateways have told; each tells within a minute.
    ///
    /// # Errors
    /// When the file is there, and cannot be read.
    pub fn read(&self) -> io::Result<LastUses> {
        match fs::read(&self.0) {
            Ok(text) => Ok(LastUses(serde_json::from_slice(&text)?)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(LastUses(Uses::new())),
            Err(e) => Err(e),
        }
    }

    /// Keeps what is newer than what others kept, of these tokens alone.
    pub(crate) fn keep(&self, uses: &Uses, tokens: &[Token]) -> io::Result<()> {
        let target = target(&self.0)?;
        let _lock = locked(&target)?;
        // What is no such file was written by nobody who will miss it.
        let LastUses(mut kept) = self.read().or_else(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Ok(LastUses(Uses::new())),
            _ => Err(error),
        })?;
        kept.retain(|name, _| tokens.iter().any(|token| token.name == *name));
        for (name, used_at) in uses {
            let kept = kept.entry(name.clone()).or_insert(*used_at);
            *kept = (*kept).max(*used_at);
        }
        replace(&target, &serde_json::to_string_pretty(&kept)?)
    }
}

/// When tokens were used last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LastUses(Uses);

impl LastUses {
    /// When this one was. A use before it was made is another's, who had its name.
    pub fn of(&self, token: &Token) -> Option<DateTime<Utc>> {
        let used_at = self.0.get(&token.name).copied();
        used_at.filter(|at| *at >= token.created_at)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chrono::{SubsecRound, TimeDelta};

    use super::*;

    #[test]
    fn the_latest_use_is_kept_whoever_tells_it_first() {
        let dir = tempfile::tempdir().unwrap();
        let file = UsesFile::new(None, &dir.path().join("tokens.json"));
        assert!(file.path().ends_with("tokens.json.used.json"));
        assert_eq!(file.read().unwrap(), LastUses::default());
        let tokens = ["ci", "shop"].map(Token::named);
        let now = Utc::now().trunc_subsecs(0);
        let (then, before) = (now + TimeDelta::seconds(9), now - TimeDelta::seconds(9));
        let uses =
            |of: &[(&str, DateTime<Utc>)]| of.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
        file.keep(&uses(&[("ci", then), ("shop", before)]), &tokens)
            .unwrap();
        file.keep(&uses(&[("ci", now)]), &tokens).unwrap();
        let kept = file.read().unwrap();
        assert_eq!(kept.of(&tokens[0]), Some(then));
        // Another "shop" was used then.
        assert_eq!(kept.of(&tokens[1]), None);
        // Of tokens that are gone nothing is kept.
        file.keep(&Uses::new(), &tokens[1..]).unwrap();
        assert_eq!(file.read().unwrap().of(&tokens[0]), None);
    }

    #[test]
    fn what_is_no_such_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("used.json");
        let file = UsesFile::new(Some(&path), Path::new("tokens.json"));
        for text in ["", "{", "[]"] {
            fs::write(&path, text).unwrap();
            assert!(file.read().is_err(), "{text:?}");
            file.keep(&Uses::new(), &[]).unwrap();
            assert_eq!(file.read().unwrap(), LastUses::default());
        }
    }
}
