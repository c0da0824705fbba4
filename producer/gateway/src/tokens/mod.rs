//! The bearer tokens that callers show.
//!
//! | file | what it holds |
//! |---|---|
//! | `token`, `scope` | what is kept of one, and what it is good for |
//! | `file` | [`TokensFile`]: all of them, on disk |
//! | `uses` | [`UsesFile`]: when they were used last |
//! | `on_disk` | files that are replaced as a whole |
//! | `valid` | those that are good now |
//! | `meter` | what the callers of one use |

mod file;
pub(crate) mod meter;
mod on_disk;
mod scope;
mod token;
mod uses;
pub(crate) mod valid;

pub use self::file::{TokensError, TokensFile};
pub use self::scope::{Scope, in_words};
pub use self::token::Token;
pub use self::uses::{LastUses, UsesFile};
