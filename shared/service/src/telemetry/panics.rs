//! Panics in the log: a line like any other, and nothing of what was worked on in it.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic;

use tracing::error;

/// Has panics of this process told by the log, instead of as they are on stderr.
pub(super) fn log() {
    panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(tracing::field::display);
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        error!(place, panic = literal(panic.payload()), backtrace, "panicked");
    }));
}

/// The text of a panic, where it is one of the program's own. One that was made for the occasion (`panic!("{input}")`, a
/// slice of a text at a wrong place) may hold what must not be in a log.
pub fn literal(payload: &(dyn Any + Send)) -> Option<&'static str> {
    payload.downcast_ref::<&'static str>().copied()
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn only_a_text_of_the_program_is_told() {
        let secret = "inputs";
        let of = |panics: fn(&str)| literal(&*catch_unwind(|| panics(secret)).unwrap_err());
        assert_eq!(of(|_| panic!("a fault")), Some("a fault"));
        assert_eq!(of(|secret| panic!("a fault of {secret}")), None);
    }
}
