//! Many kickoffs from a file: JSON lines in, JSON lines out, resumable.
//!
//! A row's kickoff has the id `<batch>-<row>`, and the batch one reply queue of its own. A run that ended early
//! is resumed by running it again: rows that are answered are skipped, rows on their way are attached to, rows
//! in doubt are looked for and, if nobody answered them, published again under the same id with the same body,
//! by which a worker recognises them.
//!
//! | file | what it holds |
//! |---|---|
//! | `rows` | reading and checking the inputs |
//! | `journal` | what became of each row so far |
//! | `end` | what follows the batch: gateways are told, and it is awaited |
//! | `error` | why it could not be run |
//! | `options`, `summary` | what to run, and how it ended |
//! | `lines` | a file of JSON lines that survives a crash |
//! | `run` | sending, waiting, writing |
//! | `progress` | how far it is, for people |

mod end;
mod error;
mod journal;
mod lines;
mod options;
mod progress;
mod rows;
mod run;
mod summary;

pub(crate) use self::error::BatchError;
pub(crate) use self::options::BatchOptions;
pub(crate) use self::run::run;
pub(crate) use self::summary::BatchSummary;
