//! Webhooks that a request asks for: what a kickoff tells becomes orders, and whoever runs sinks calls them.
//!
//! | file | what it holds |
//! |---|---|
//! | [`tap`] | where what happens in an attempt is told |
//! | [`collected`], [`joined`] | what was told, and is not confirmed yet |
//! | [`payload`] | the bodies of the calls, as CrewAI AMP has them |
//! | [`orders`] | publishing: as it comes, and all of it before the reply |

pub(crate) mod collected;
mod joined;
pub(crate) mod orders;
pub(crate) mod payload;
pub(crate) mod tap;
