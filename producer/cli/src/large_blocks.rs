//! Large blocks of memory, given back to the system as soon as they are freed.
//!
//! glibc's `malloc` maps large blocks on their own, and unmaps them when they are freed. It raises the size from which it
//! does that with each one that is freed, up to 32 MiB, and then takes them from its heap, where what stays between them
//! holds their room. With replies of megabytes a gateway grew to twice what it held. `MALLOC_MMAP_THRESHOLD_` fixes the
//! size. glibc reads it when a process starts, so the program runs itself anew, under the same process id.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `mallopt(3)`.
const VARIABLE: &str = "MALLOC_MMAP_THRESHOLD_";
/// In bytes: glibc's own first value.
const THRESHOLD: &str = "131072";

/// Runs the program anew with the variable, unless it is there already. Where that fails, the program goes on as it is.
pub(super) fn unmap_when_freed() {
    if !cfg!(target_env = "gnu") || env::var_os(VARIABLE).is_some() {
        return;
    }
    let (Ok(program), mut arguments) = (env::current_exe(), env::args_os()) else {
        return;
    };
    let mut again = Command::new(program);
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    let _ = again.args(arguments).env(VARIABLE, THRESHOLD).exec();
}
