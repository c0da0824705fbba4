//! What came of handing something on.

use std::time::Duration;

/// What came of handing something on. What it says of the reason is for people, and has no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is where it belongs.
    Delivered,
    /// It may go better later.
    Again {
        /// What was in the way.
        why: String,
        /// When to come again, where the other side said it.
        after: Option<Duration>,
    },
    /// Not even tried: the other side is busy, or known not to answer. That is no attempt.
    Deferred {
        /// For how long at least.
        after: Duration,
    },
    /// The other side is away as a whole. What is held stays held until it is back.
    Away {
        /// What was in the way.
        why: String,
    },
    /// The other side wants nothing more (410).
    Gone,
    /// It would never go better.
    Never {
        /// Why.
        why: String,
    },
}

impl Verdict {
    /// The other side may take it later.
    pub(crate) fn again(why: impl Into<String>) -> Self {
        Self::Again {
            why: why.into(),
            after: None,
        }
    }

    /// It would never go better.
    pub(crate) fn never(why: impl Into<String>) -> Self {
        Self::Never { why: why.into() }
    }
}
