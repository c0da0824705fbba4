//! The native API, below `/v1`. Its OpenAPI document is made of the handlers.
//!
//! | file | what it holds |
//! |---|---|
//! | `routes`, `openapi` | the calls, and the document |
//! | `problem` | errors, as RFC 9457 has them |
//! | `view` | a kickoff as callers see it |
//! | `search` | what a list is filtered by |
//! | `webhook_schema` | webhooks, for the document |
//! | `create`, `kickoffs`, `result` | start kickoffs, find them, get what they came to |
//! | `me`, `request` | who calls; what was asked for |
//! | `statistics`, `spending` | how crews do, how many kickoffs there are, what they cost |
//! | `events`, `event_view`, `live` | their events: a page, and as they come |
//! | `actions` | cancel and retry |
//! | `conditional` | answers that a caller has already |
//! | `crews`, `workers` | what workers serve; pause, resume, drain |
//! | `dead_letters`, `dead_letter_view`, `letter_cursor`, `dead_letter_actions` | what could not be done: list, redrive, purge |
//! | `bulk` | cancel and retry of all that a filter takes |
//! | `batches`, `batch_items`, `batch_meta`, `batch_list` | many kickoffs by one call, and how far they are |
//! | `batch_end`, `batch_schema` | what follows a batch, and what is done when items fail; the same for the document |
//! | `many` | the same done to many, some at once, in bounded time |
//! | `body`, `no_query` | what calls are sent |

mod actions;
mod batch_end;
mod batch_items;
mod batch_list;
mod batch_meta;
mod batch_schema;
mod batches;
mod body;
mod bulk;
mod conditional;
mod create;
mod crews;
mod dead_letter_actions;
mod dead_letter_view;
mod dead_letters;
mod event_view;
mod events;
mod kickoffs;
mod letter_cursor;
mod live;
mod many;
mod me;
mod no_query;
mod openapi;
mod problem;
mod request;
mod result;
mod routes;
mod search;
mod spending;
mod statistics;
mod step_schema;
mod view;
mod webhook_schema;
mod workers;

pub(crate) use self::problem::problems;
pub(crate) use self::routes::{router, unknown};
