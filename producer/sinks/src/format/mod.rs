//! The forms in which replies and events are handed on.
//!
//! | file | what it holds |
//! |---|---|
//! | [`bounded`] | a body with a reference in the place of what is too large |
//! | [`cloud_event`] | `CloudEvents` 1.0 |

pub(crate) mod bounded;
pub(crate) mod cloud_event;

use bytes::Bytes;
use crewfleet_protocol::Names;

use crate::config::Format;
use crate::item::Item;

const JSON: &str = "application/json";

/// What is handed on.
#[derive(Debug, Clone)]
pub(crate) struct Payload {
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
}

/// An item in a form, its body as it came.
pub(crate) fn payload(format: Format, names: &Names, item: &Item, body: Bytes) -> Payload {
    match format {
        Format::Native => Payload {
            content_type: JSON,
            body,
        },
        Format::CloudEvents => Payload {
            content_type: cloud_event::CONTENT_TYPE,
            body: cloud_event::wrapped(names, item, &body),
        },
    }
}
