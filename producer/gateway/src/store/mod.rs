//! What the gateway knows of kickoffs, in a file of its own.
//!
//! What the streams tell is projected into SQLite from where the file has read them to. So a gateway that was away catches
//! up, a file that is lost is filled again, and any number of gateways know the same.
//!
//! | file | what it holds |
//! |---|---|
//! | `handle` | the store as its users hold it |
//! | `state` | how far a kickoff is, and what events and replies make of that |
//! | `row` | one kickoff as a row |
//! | `news` | what the streams tell |
//! | `projection` | what messages make of the rows, in one transaction |
//! | `followers` | the streams, read into it |
//! | `window` | how many messages of a stream are on their way |
//! | `writer` | the thread that writes |
//! | `retention` | what is let go |
//! | `database`, `connection` | the file |
//! | `readers` | connections that read, one for each who asks |
//! | `recent` | what there was news of last, without a reading |
//! | `full_text`, `meta_index` | the words of inputs and results, and what is searched of `meta` |
//! | `filter`, `queries` | what is asked |
//! | `untold` | kickoffs of which no stream tells |
//! | `batches` | batches that have an end, and how far their items are |
//! | `totals` | what is asked of many kickoffs at once |
//! | `tally`, `tally_retention`, `statistics` | what ended and what it cost, counted as it is heard; and what is asked of that |
//! | `steering` | who paused, resumed or drained what |
//! | `subscribers` | who waits for news |

pub(crate) mod batches;
mod connection;
mod database;
pub(crate) mod filter;
mod followers;
mod full_text;
mod handle;
mod meta_index;
mod news;
mod projection;
pub(crate) mod queries;
mod readers;
mod recent;
mod retention;
pub(crate) mod row;
pub(crate) mod state;
pub(crate) mod statistics;
pub(crate) mod steering;
pub(crate) mod subscribers;
pub(crate) mod tally;
mod tally_retention;
mod totals;
mod untold;
mod window;
mod writer;

pub use self::database::StoreError;
pub(crate) use self::handle::{Store, StreamTopology, Windows};
pub(crate) use self::news::{News, Request};
pub(crate) use self::projection::Indexes;
pub(crate) use self::retention::{Bounds, Retention};
pub(crate) use self::window::Window;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
