//! The tokens that are good now: the file, as a gateway that runs knows it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::file::{TokensError, TokensFile, hash};
use super::meter::Meter;
use super::token::Token;
use super::uses::{Uses, UsesFile};

/// How often a gateway reads the file: a revoked token works for so long at most.
const INTERVAL: Duration = Duration::from_secs(1);

/// How often at most it reads the file for tokens that it does not know.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// How often at most it writes when tokens were used.
const KEEPING_INTERVAL: Duration = Duration::from_secs(60);

/// A token that is known, and what its callers use.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) token: Token,
    pub(crate) meter: Arc<Meter>,
}

/// The tokens that are good now.
#[derive(Debug)]
pub(crate) struct ValidTokens {
    /// By their hashes.
    known: RwLock<HashMap<String, Arc<Known>>>,
    file: TokensFile,
    /// When it was begun to read the file last; held while it is read.
    looked: tokio::sync::Mutex<Option<Instant>>,
    uses: Mutex<Keeping>,
}

/// What is kept of uses.
#[derive(Debug)]
struct Keeping {
    file: UsesFile,
    kept: Uses,
    kept_at: Option<Instant>,
    /// That it cannot be kept was told.
    told: bool,
}

impl ValidTokens {
    fn of(file: &TokensFile, uses: UsesFile) -> Self {
        Self {
            known: RwLock::default(),
            file: file.clone(),
            looked: tokio::sync::Mutex::default(),
            uses: Mutex::new(Keeping {
                file: uses,
                kept: Uses::new(),
                kept_at: None,
                told: false,
            }),
        }
    }

    /// Reads the file, and again whenever it has changed, until `stop`.
    ///
    /// # Errors
    /// [`TokensError`] at the first reading. Later, what was read last stays good.
    pub(crate) fn watch(
        file: TokensFile,
        uses: UsesFile,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, TokensError> {
        let mut known = file.read()?;
        if known.is_empty() {
            warn!(file = %file.place().display(), "there is no token, so every call is refused; `crewfleet token create NAME --crew CREW` makes one");
        }
        let tokens = Arc::new(Self::of(&file, uses));
        tokens.set(known.clone());
        let watched = Arc::clone(&tokens);
        tokio::spawn(async move {
            let mut told = None;
            while stop
                .run_until_cancelled(tokio::time::sleep(INTERVAL))
                .await
                .is_some()
            {
                match watched.read_again().await {
                    Ok(read) => {
                        told = None;
                        if read != known {
                            info!(tokens = read.len(), "the tokens have changed");
                            known = read;
                        }
                    }
                    Err(error) if told.as_ref() != Some(&error) => {
                        warn!(error, "the tokens cannot be read; those read last stay good");
                        told = Some(error);
                    }
                    Err(_) => {}
                }
                watched.keep_uses(KEEPING_INTERVAL).await;
            }
        });
        Ok(tokens)
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
    }

    /// What is known of a token that somebody shows; one that is not known may have just been made. The hash is looked up, so
    /// nothing is told by the time it takes.
    pub(crate) async fn find(&self, shown: &str) -> Option<Arc<Known>> {
        if let Some(known) = self.known(shown) {
            return Some(known);
        }
        let came = Instant::now();
        let mut looked = self.looked.lock().await;
        // What somebody else began to read since then is good for this one, too.
        if looked.is_none_or(|at| at < came) {
            // Whoever shows wrong ones has the file read so often, and no more.
            if let Some(at) = *looked {
                tokio::time::sleep(LOOK_INTERVAL.saturating_sub(at.elapsed())).await;
            }
            // What is wrong with the file, the watch tells.
            let _ = self.read_now(&mut looked).await;
        }
        drop(looked);
        self.known(shown)
    }

    /// Reads the file. One at a time: who read it before must not have the last word.
    async fn read_again(&self) -> Result<Vec<Token>, String> {
        self.read_now(&mut *self.looked.lock().await).await
    }

    async fn read_now(&self, looked: &mut Option<Instant>) -> Result<Vec<Token>, String> {
        *looked = Some(Instant::now());
        let file = self.file.clone();
        let reading = tokio::task::spawn_blocking(move || file.read().map_err(|e| e.to_string()));
        let read = reading.await.map_err(|e| e.to_string())??;
        self.set(read.clone());
        Ok(read)
    }

    /// Writes when tokens were used, if that is news, and was not done for so long.
    pub(crate) async fn keep_uses(self: &Arc<Self>, interval: Duration) {
        let tokens = Arc::clone(self);
        // It has told what it could not do.
        let _ = tokio::task::spawn_blocking(move || tokens.keep_uses_now(interval)).await;
    }

    fn keep_uses_now(&self, interval: Duration) {
        let known: Vec<_> = {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            known.values().cloned().collect()
        };
        let used = |known: &Arc<Known>| Some((known.token.name.clone(), known.meter.used_at()?));
        let uses: Uses = known.iter().filter_map(used).collect();
        let mut keeping = self.keeping();
        let is_due = keeping.kept_at.is_none_or(|at| at.elapsed() >= interval);
        if !is_due || uses == keeping.kept {
            return;
        }
        // Where it fails, it is not tried again sooner.
        keeping.kept_at = Some(Instant::now());
        let tokens: Vec<_> = known.iter().map(|known| known.token.clone()).collect();
        match keeping.file.keep(&uses, &tokens) {
            Ok(()) => {
                keeping.kept = uses;
                keeping.told = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut keeping.told, true) {
                    let file = keeping.file.path().display();
                    warn!(%file, %error, "when tokens were used last is not kept; name a file that can be written in [gateway] tokens_used_file");
                }
            }
        }
    }

    fn keeping(&self) -> MutexGuard<'_, Keeping> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, shown: &str) -> Option<Arc<Known>> {
        let tokens = self.known.read().unwrap_or_else(PoisonError::into_inner);
        tokens.get(&hash(shown)).cloned()
    }

    fn set(&self, tokens: Vec<Token>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let now_known = tokens.into_iter().map(|token| {
            // What its callers used counts on, whatever else has changed.
            let meter = known
                .get(&token.sha256)
                .map_or_else(Arc::default, |known| Arc::clone(&known.meter));
            (token.sha256.clone(), Arc::new(Known { token, meter }))
        });
        *known = now_known.collect();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::Path;

    use secrecy::ExposeSecret;

    use super::*;

    fn tokens(dir: &Path, uses: &str) -> (TokensFile, ValidTokens) {
        let path = dir.join("tokens.json");
        let file = TokensFile::new(&path);
        let tokens = ValidTokens::of(&file, UsesFile::new(Some(&dir.join(uses)), &path));
        (file, tokens)
    }

    #[tokio::test]
    async fn a_token_is_good_as_soon_as_it_is_made_and_its_hash_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let (file, tokens) = tokens(dir.path(), "used.json");
        assert!(tokens.is_empty());
        let secret = file.create(Token::named("ci")).unwrap();
        let found = tokens.find(secret.expose_secret()).await.unwrap();
        assert_eq!(found.token.name, "ci");
        assert!(tokens.known("").is_none() && tokens.known(&found.token.sha256).is_none());
    }

    #[tokio::test]
    async fn a_new_token_is_good_whoever_shows_another_at_that_moment() {
        let dir = tempfile::tempdir().unwrap();
        let (file, tokens) = tokens(dir.path(), "used.json");
        assert!(tokens.find("wrong").await.is_none());
        let secret = file.create(Token::named("ci")).unwrap();
        let (first, second) = tokio::join!(
            tokens.find(secret.expose_secret()),
            tokens.find(secret.expose_secret())
        );
        assert!(first.is_some() && second.is_some());
    }

    #[tokio::test]
    async fn what_a_token_used_counts_on_when_the_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (file, tokens) = tokens(dir.path(), "used.json");
        let once = Token {
            rate_per_s: Some(0.001),
            ..Token::named("once")
        };
        let secret = file.create(once).unwrap();
        let found = tokens.find(secret.expose_secret()).await.unwrap();
        drop(found.meter.begin(&found.token, 9).unwrap());
        file.create(Token::named("another")).unwrap();
        tokens.set(file.read().unwrap());
        let found = tokens.find(secret.expose_secret()).await.unwrap();
        assert!(found.meter.begin(&found.token, 9).is_err());
    }

    #[tokio::test]
    async fn the_last_use_is_written_when_it_is_due_and_only_if_it_is_news() {
        let dir = tempfile::tempdir().unwrap();
        let (file, tokens) = tokens(dir.path(), "used.json");
        let used = dir.path().join("used.json");
        let secret = file.create(Token::named("ci")).unwrap();
        let found = tokens.find(secret.expose_secret()).await.unwrap();
        tokens.keep_uses_now(Duration::ZERO);
        assert!(!used.exists(), "nobody used it");
        drop(found.meter.begin(&found.token, 9).unwrap());
        tokens.keep_uses_now(KEEPING_INTERVAL);
        let kept = tokens.keeping().file.read().unwrap();
        assert_eq!(kept.of(&found.token), found.meter.used_at());
        // Neither what is known already, nor what is not due.
        std::fs::remove_file(&used).unwrap();
        tokens.keep_uses_now(Duration::ZERO);
        tokens.keeping().kept = Uses::new();
        tokens.keep_uses_now(KEEPING_INTERVAL);
        assert!(!used.exists());
        tokens.keep_uses_now(Duration::ZERO);
        assert!(used.exists());
    }

    #[tokio::test]
    async fn where_it_cannot_be_written_that_is_told_once_and_tokens_are_good() {
        let dir = tempfile::tempdir().unwrap();
        let (file, tokens) = tokens(dir.path(), "no/such/folder/used.json");
        let secret = file.create(Token::named("ci")).unwrap();
        let found = tokens.find(secret.expose_secret()).await.unwrap();
        drop(found.meter.begin(&found.token, 9).unwrap());
        tokens.keep_uses_now(Duration::ZERO);
        assert!(tokens.keeping().told && tokens.keeping().kept.is_empty());
        assert!(found.meter.begin(&found.token, 9).is_ok());
    }
}
