//! A model of crewfleet's delivery protocol.

mod bug;
mod claim;
mod faults;
mod intake;
mod message;
mod orders;
pub mod properties;
mod protocol;
pub mod scenario;
mod settle;
mod state;
mod worker;

pub use bug::Bug;
pub use protocol::{Action, Protocol};
pub use scenario::Scenario;
pub use state::State;
