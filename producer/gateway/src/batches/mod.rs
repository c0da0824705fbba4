//! Batches that have an end: each gateway counts their items in its store, and any of them starts what follows, as one
//! kickoff whose id is made of the batch's.
//!
//! | file | what it holds |
//! |---|---|
//! | `ender` | looks at the batches that have changed |
//! | `schedule` | when which batch is looked at |
//! | `step` | what is to be done with a batch, by how far its items are |
//! | `callback` | the inputs of what follows |
//! | `telling` | news of batches, told to all gateways |

pub(crate) mod callback;
pub(crate) mod ender;
mod schedule;
mod step;
mod telling;
