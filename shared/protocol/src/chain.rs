//! Chains: what is to follow a kickoff. A request carries its steps in `then`, in order. The worker that ends a kickoff
//! starts the next step, which carries the rest.
//!
//! | file | what it holds |
//! |---|---|
//! | `step` | a step, and for what end of the kickoff before it is meant |
//! | `read` | `then`, from what was sent to steps |
//! | `place` | where a kickoff stands in its chain: in requests, events and replies |

mod place;
mod read;
mod step;

pub use place::{ChainLink, ChainPlace, NextStep, ReplyChain};
pub use read::{MAX_STEPS, ThenError, read, read_batch_then, read_step};
pub use step::{Step, When};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
