//! The API: what is asked, by whom, and what is answered.
//!
//! | file | what it holds |
//! |---|---|
//! | `routes`, `paths` | routes, and what holds for all calls; paths as clients write them |
//! | `kickoff` | the way of `POST /kickoff` |
//! | `files` | what kickoffs wrote |
//! | `handlers` | the way of each other call |
//! | `identity`, `auth` | who calls; and which crew, where the path names one |
//! | `tenant_meta` | whose a kickoff is |
//! | `request_limits`, `shares` | bodies: not too long, not too many; and how callers share the room |
//! | `dto` | what is read and answered |
//! | `webhooks` | where callers want to be called |
//! | `api_error` | what is refused, and how that is told |
//! | `ui` | the dashboard |
//! | `metrics`, `access_log`, `notes` | requests, counted and logged; and what is learnt of one until then |

mod access_log;
pub(crate) mod api_error;
mod auth;
mod dto;
mod files;
mod handlers;
pub(crate) mod idempotency;
mod identity;
mod json_object;
pub(crate) mod kickoff;
pub(crate) mod metrics;
mod notes;
mod paths;
pub(crate) mod request_limits;
pub(crate) mod routes;
mod shares;
mod tenant_meta;
mod ui;
mod v1;
pub(crate) mod webhooks;
