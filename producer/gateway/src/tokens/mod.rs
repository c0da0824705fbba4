//! The bearer tokens that callers show.
//!
//! | file | what it holds |
//! |---|---|
//! | `file` | [`TokensFile`]: what is kept of them, on disk |
//! | `valid` | those that are good now |

mod file;
pub(crate) mod valid;

pub use self::file::{Token, TokensError, TokensFile};
