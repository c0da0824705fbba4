//! Calling webhooks: where others want to be called.
//!
//! | file | what it holds |
//! |---|---|
//! | [`address_guard`] | which addresses may be called |
//! | [`resolver`] | names become addresses that may be called |
//! | [`hosts`], `breaker` | each host's own places, and hosts that are left alone |
//! | [`signing`] | signatures |
//! | [`client`] | one call |

pub(crate) mod address_guard;
mod breaker;
pub(crate) mod client;
pub(crate) mod hosts;
pub(crate) mod resolver;
pub(crate) mod signing;
