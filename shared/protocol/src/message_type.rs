//! The `type` property of each message of the contract.

/// A [`KickoffRequest`](super::KickoffRequest).
pub const REQUEST: &str = "kickoff.request.v1";
/// A [`Reply`](super::Reply).
pub const REPLY: &str = "kickoff.reply.v1";
/// An [`Event`](super::Event).
pub const EVENT: &str = "kickoff.event.v1";
/// A [`Control`](super::Control) command.
pub const CONTROL: &str = "kickoff.control.v1";
/// A [`Heartbeat`](super::Heartbeat).
pub const FLEET: &str = "kickoff.fleet.v1";
/// A [`Query`](super::Query).
pub const QUERY: &str = "kickoff.query.v1";
/// A [`BatchNews`](super::BatchNews).
pub const BATCH: &str = "kickoff.batch.v1";
/// An [`Answer`](super::Answer).
pub const ANSWER: &str = "kickoff.answer.v1";
/// A [`WebhookOrder`](super::webhooks::WebhookOrder).
pub const WEBHOOK: &str = "kickoff.webhook.v1";
