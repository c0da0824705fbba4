//! What the gateway knows of kickoffs, in memory.
//!
//! | file | what it holds |
//! |---|---|
//! | `execution` | what is known of one kickoff |
//! | `executions`, `weighted` | what is known of all, and what is let go |
//! | `stream_followers` | the streams of events and replies, read into it |
//! | `lookups` | replies that were let go, read again |

pub(crate) mod execution;
pub(crate) mod executions;
pub(crate) mod lookups;
pub(crate) mod stream_followers;
mod weighted;
