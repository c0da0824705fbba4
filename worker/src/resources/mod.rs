//! What crew processes use of the machine: their [`memory`], and the [`processes`] themselves.

pub(crate) mod memory;
pub(crate) mod process_handle;
pub(crate) mod processes;
