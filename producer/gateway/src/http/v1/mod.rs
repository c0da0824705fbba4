//! The native API, below `/v1`. Its OpenAPI document is made of the handlers.
//!
//! | file | what it holds |
//! |---|---|
//! | `routes`, `openapi` | the calls, and the document |
//! | `problem` | errors, as RFC 9457 has them |
//! | `view` | a kickoff as callers see it |
//! | `search` | what a list is filtered by |
//! | `create`, `kickoffs`, `result` | start kickoffs, find them, get what they came to |
//! | `events`, `live` | their events: a page, and as they come |
//! | `actions` | cancel and retry |
//! | `conditional` | answers that a caller has already |

mod actions;
mod conditional;
mod create;
mod events;
mod kickoffs;
mod live;
mod openapi;
mod problem;
mod result;
mod routes;
mod search;
mod view;

pub(crate) use self::problem::problems;
pub(crate) use self::routes::{router, unknown};
