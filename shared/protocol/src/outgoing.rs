//! A message of the contract on its way out: where it goes, and what it says of itself.

/// A message of the contract, for whatever speaks AMQP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The exchange.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// The property `type`.
    pub message_type: &'static str,
    /// The property `message_id`.
    pub message_id: String,
    /// The property `correlation_id`.
    pub correlation_id: Option<String>,
    /// The property `reply_to`.
    pub reply_to: Option<String>,
    /// The body, which is JSON.
    pub body: Vec<u8>,
    /// Whether it is an error that no queue takes it.
    pub mandatory: bool,
}
