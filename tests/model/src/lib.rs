//! A model of crewfleet's delivery protocol, checked exhaustively with [`stateright`].
//!
//! The model is one hand-written state machine: the broker's queues, two workers, and the steps that each can take. It
//! follows the worker's code, not its documents: [`rules`] names the functions that each rule stands for, and a test
//! looks for them in the sources. The checker visits every state that a small world ([`scenario`]) can reach, in every
//! order of steps, and holds each against [`properties`].
//!
//! | file | noun |
//! |---|---|
//! | `message` | requests, control messages, replies, dead letters |
//! | `state` | the whole: queues, workers, what an observer has seen |
//! | `worker` | one worker: its link, its run registry, what it remembers |
//! | `protocol` | the steps, and which of them are possible |
//! | `intake` | deliver, enter the run registry, be admitted, start |
//! | `claim` | ask whose it is, answer, hear, wait |
//! | `settle` | reply, dead letter, next attempt, requeue, release, ack |
//! | `orders` | what people do: cancel, redrive, drain |
//! | `faults` | what goes wrong: links, processes, confirms, panics |
//! | `properties` | what must hold, and what must be reached |
//! | `scenario` | the small worlds |
//! | `rules` | each rule, its code, its bugs |
//! | `bug` | deliberate bugs |
//!
//! # What is shown
//!
//! In every state of every scenario:
//!
//! - Nothing is lost. A kickoff that was requested has a terminal reply, or the broker still has a copy of its request.
//! - Nothing is stuck. When no step is left, every kickoff has its reply, and no delivery is unacked.
//! - A failure leaves a dead letter, whatever dies meanwhile.
//! - One attempt has no two different terminal replies, unless a fault explains a second execution.
//! - An attempt is executed once, and once more at most for each event that explains it: its worker died, its worker
//!   was away for longer than the asker's hold, its outcome was dropped since its delivery was lost, it was put back
//!   while it ran, the confirm of a copy was lost, or a redrive was interrupted.
//! - A run that another worker has overtaken tells nothing but success.
//! - A cancelled kickoff is not started by a worker that knows of the cancel, or has to.
//! - Only lost workers count toward the crash limit, and the limit holds.
//! - Whoever waits for a worker that lives is told the end.
//!
//! Each of the [deliberate bugs](Bug) breaks a rule, and a test shows that the checker finds it.
//!
//! # How to run it
//!
//! ```sh
//! cargo test -p crewfleet-model -- --nocapture
//! ```
//!
//! A violation is printed as the list of steps that leads to it. `Deliver(1, …)` is a step of the second worker.
//!
//! # What is left out, and why
//!
//! - Time. A hold may end whenever another worker is away, or when all that was said is heard. A retry tier only
//!   delays, so it is part of the queue. Deadlines, time limits and the consumer timeout end in outcomes that are
//!   settled like the ones here.
//! - The order of a queue. Any message of it may be delivered next, which is more than RabbitMQ does.
//! - `ack` frames. A request is acked or its link is lost; `amqp::acks` has property tests of its own.
//! - The size of memories. 5,000 kickoffs are remembered; the model forgets nothing.
//! - Pauses, room, prefetch and exclusive runs. They say when a kickoff starts, and put it back like a drain.
//! - A second kickoff under another id. Nothing is shared between two but the queue.
//! - The exact count of deaths. A worker that has lost its delivery and dies then returns none. A run says `mine` for
//!   each delivery that comes back to it, also for one that another worker lost by its death, and a copy of it does
//!   not carry that delivery's count. The crash limit may be passed by one then.
//! - `on_redelivery = "fail"`. It replaces a start by a reply.

mod bug;
mod claim;
mod faults;
mod intake;
mod message;
mod orders;
pub mod properties;
mod protocol;
pub mod rules;
pub mod scenario;
mod settle;
mod state;
mod worker;

pub use bug::Bug;
pub use protocol::{Action, Protocol};
pub use scenario::Scenario;
pub use state::State;
