//! The kickoffs of which there was news last, as the file has them: who starts one asks for it soon, and again when it has
//! ended, and the one who writes needs it with each news of it. What is here is not read from the file.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::row::Kickoff;

/// So many are kept. A fleet that ends 1,000 a second has the last four seconds at hand.
const KICKOFFS: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// A kickoff with more `meta` than this is not kept, and neither is a larger reply, in bytes: 4,096 of both are 24 MiB.
const LARGEST_META: usize = 2 * 1024;
const LARGEST_REPLY: usize = 4 * 1024;

/// All of them.
pub(super) struct Recent(Mutex<LruCache<String, Entry>>);

struct Entry {
    kickoff: Kickoff,
    /// Its reply, where it came since the kickoff is kept, and is small.
    reply: Option<Arc<[u8]>>,
}

/// What a transaction has written of a kickoff.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) kickoff: Kickoff,
    pub(super) reply: ReplyNews,
}

/// What became of a kickoff's reply.
#[derive(Debug, Default)]
pub(super) enum ReplyNews {
    /// It is as it was.
    #[default]
    None,
    /// It came, or came anew.
    Came(Arc<[u8]>),
    /// The same, and it is too large to be kept here.
    TooLarge,
}

impl Default for Recent {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KICKOFFS)))
    }
}

impl ReplyNews {
    pub(super) fn of(body: &[u8]) -> Self {
        match body.len() > LARGEST_REPLY {
            true => Self::TooLarge,
            false => Self::Came(body.into()),
        }
    }
}

impl Recent {
    /// A kickoff that is kept.
    pub(super) fn kickoff(&self, id: &str) -> Option<Kickoff> {
        self.entries().get(id).map(|entry| entry.kickoff.clone())
    }

    /// The reply of a kickoff, where both are kept.
    pub(super) fn reply(&self, id: &str) -> Option<Arc<[u8]>> {
        self.entries().get(id).and_then(|entry| entry.reply.clone())
    }

    /// Takes in what is in the file by now.
    pub(super) fn put(&self, written: Vec<Written>) {
        let mut entries = self.entries();
        for Written { kickoff, reply } in written {
            if kickoff
                .meta
                .as_ref()
                .is_some_and(|meta| meta.len() > LARGEST_META)
            {
                entries.pop(&kickoff.id);
                continue;
            }
            let reply = match reply {
                ReplyNews::None => entries.pop(&kickoff.id).and_then(|before| before.reply),
                ReplyNews::Came(reply) => Some(reply),
                ReplyNews::TooLarge => None,
            };
            entries.put(kickoff.id.clone(), Entry { kickoff, reply });
        }
    }

    /// Forgets all: rows were changed or deleted by what names none of them.
    pub(super) fn clear(&self) {
        self.entries().clear();
    }

    /// The lock guards plain data that every holder leaves whole, so a poisoned one is as good as any.
    fn entries(&self) -> MutexGuard<'_, LruCache<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(id: &str, reply: ReplyNews) -> Vec<Written> {
        let kickoff = Kickoff::new(id, "echo", 1);
        vec![Written { kickoff, reply }]
    }

    #[test]
    fn a_reply_stays_until_another_comes() {
        let recent = Recent::default();
        recent.put(written("a", ReplyNews::of(b"one")));
        recent.put(written("a", ReplyNews::None));
        assert_eq!(recent.reply("a").as_deref(), Some(&b"one"[..]));
        recent.put(written("a", ReplyNews::of(&[0; LARGEST_REPLY + 1])));
        assert!(recent.reply("a").is_none() && recent.kickoff("a").is_some());
        recent.clear();
        assert!(recent.kickoff("a").is_none());
    }

    #[test]
    fn one_with_much_meta_is_not_kept_and_what_was_kept_of_it_goes() {
        let recent = Recent::default();
        recent.put(written("a", ReplyNews::None));
        let mut large = written("a", ReplyNews::None);
        large
            .iter_mut()
            .for_each(|one| one.kickoff.meta = Some("x".repeat(LARGEST_META + 1)));
        recent.put(large);
        assert!(recent.kickoff("a").is_none());
    }
}
