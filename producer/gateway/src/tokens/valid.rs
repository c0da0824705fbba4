//! The tokens that are good now: the file, as a gateway that runs knows it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::file::{Token, TokensError, TokensFile, hash};

/// How often a gateway reads the file: a revoked token works for so long at most.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often at most it reads the file for tokens that it does not know.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The tokens that are good now.
#[derive(Debug)]
pub(crate) struct ValidTokens {
    known: RwLock<HashMap<String, Arc<Token>>>,
    file: TokensFile,
    /// When the file was read for a token that was not known.
    looked: Mutex<Option<Instant>>,
}

impl ValidTokens {
    fn of(file: &TokensFile) -> Self {
        Self {
            known: RwLock::default(),
            file: file.clone(),
            looked: Mutex::default(),
        }
    }

    /// Reads the file, and again whenever it has changed, until `stop`.
    ///
    /// # Errors
    /// [`TokensError`] at the first reading. Later, what was read last stays good.
    pub(crate) fn watch(file: TokensFile, stop: CancellationToken) -> Result<Arc<Self>, TokensError> {
        let mut known = file.read()?;
        if known.is_empty() {
            warn!(file = %file.place().display(), "there is no token, so every call is refused; `crewfleet token create NAME --crew CREW` makes one");
        }
        let tokens = Arc::new(Self::of(&file));
        tokens.set(known.clone());
        let watched = Arc::clone(&tokens);
        tokio::spawn(async move {
            let mut told = None;
            while stop
                .run_until_cancelled(tokio::time::sleep(INTERVAL))
                .await
                .is_some()
            {
                let reading = file.clone();
                let read = tokio::task::spawn_blocking(move || reading.read().map_err(|e| e.to_string()));
                match read.await {
                    Ok(Ok(read)) => {
                        told = None;
                        if read != known {
                            info!(tokens = read.len(), "the tokens have changed");
                            known.clone_from(&read);
                        }
                        // Whatever was read in between, for a token that was not known.
                        watched.set(read);
                    }
                    Ok(Err(error)) if told.as_ref() != Some(&error) => {
                        warn!(error, "the tokens cannot be read; those read last stay good");
                        told = Some(error);
                    }
                    _ => {}
                }
            }
        });
        Ok(tokens)
    }

    /// What is known of a token that somebody shows; one that is not known may have just been made. The hash is looked up, so
    /// nothing is told by the time it takes.
    pub(crate) async fn find(&self, shown: &str) -> Option<Arc<Token>> {
        if let Some(known) = self.known(shown) {
            return Some(known);
        }
        // Whoever shows wrong ones has the file read so often, and no more.
        let due = {
            let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
            let due = looked.is_none_or(|at| at.elapsed() >= LOOK_INTERVAL);
            if due {
                *looked = Some(Instant::now());
            }
            due
        };
        if due {
            let file = self.file.clone();
            // What is wrong with the file, the watch tells.
            if let Ok(Ok(read)) = tokio::task::spawn_blocking(move || file.read()).await {
                self.set(read);
            }
        }
        self.known(shown)
    }

    fn known(&self, shown: &str) -> Option<Arc<Token>> {
        let tokens = self.known.read().unwrap_or_else(PoisonError::into_inner);
        tokens.get(&hash(shown)).cloned()
    }

    fn set(&self, tokens: Vec<Token>) {
        let tokens = tokens
            .into_iter()
            .map(|token| (token.sha256.clone(), Arc::new(token)));
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = tokens.collect();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    #[tokio::test]
    async fn a_token_is_good_as_soon_as_it_is_made_and_its_hash_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = TokensFile::new(&dir.path().join("tokens.json"));
        let tokens = ValidTokens::of(&file);
        let secret = file.create("ci", None).unwrap();
        let found = tokens.find(secret.expose_secret()).await.unwrap();
        assert_eq!(found.name, "ci");
        assert!(tokens.known("").is_none() && tokens.known(&found.sha256).is_none());
    }
}
