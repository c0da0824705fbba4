//! The API: what is asked, by whom, and what is answered.
//!
//! | file | what it holds |
//! |---|---|
//! | `routes` | routes, and what holds for all calls |
//! | `kickoff` | the way of `POST /kickoff` |
//! | `files` | what kickoffs wrote |
//! | `handlers` | the way of each other call |
//! | `auth` | who calls, and which crew |
//! | `request_limits`, `shares` | bodies: not too long, not too many; and how callers share the room |
//! | `dto` | what is read and answered |
//! | `api_error` | what is refused, and how that is told |
//! | `metrics`, `access_log` | requests, counted and logged |

mod access_log;
pub(crate) mod api_error;
mod auth;
mod dto;
mod files;
mod handlers;
pub(crate) mod kickoff;
pub(crate) mod metrics;
pub(crate) mod request_limits;
pub(crate) mod routes;
mod shares;
