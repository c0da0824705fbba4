//! Keys of `meta` that the gateway writes itself.

/// Whose a kickoff is.
pub(crate) const TENANT: &str = "tenant";
/// Which batch a kickoff is of.
pub(crate) const BATCH: &str = "batch";
