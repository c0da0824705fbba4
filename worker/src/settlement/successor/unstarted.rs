//! A step that cannot be started.

use crewfleet_amqp::{Message, reply_code};
use strum::{IntoStaticStr, VariantArray};

/// Why a step that should follow does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum Broken {
    /// Its inputs cannot be made.
    Mapping,
    /// Its request is larger than a request may be.
    TooLarge,
    /// No queue takes requests for its crew.
    Unserved,
    /// What was made is no request.
    Refused,
}

/// A step that cannot be started.
pub(super) struct Unstarted {
    pub(super) why: Broken,
    pub(super) problem: String,
    /// Its request, where it has one.
    pub(super) request: Option<Box<Message>>,
}

impl Unstarted {
    pub(super) fn new(why: Broken, problem: impl Into<String>) -> Self {
        Self {
            why,
            problem: problem.into(),
            request: None,
        }
    }
}

/// Whether the broker refuses a message for its size.
pub(super) fn is_too_large(code: Option<u16>) -> bool {
    matches!(
        code,
        Some(reply_code::PRECONDITION_FAILED | reply_code::CONTENT_TOO_LARGE)
    )
}
