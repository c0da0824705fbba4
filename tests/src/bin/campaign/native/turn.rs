//! Whose turn it is.

use std::collections::BTreeSet;

/// Which gateway is asked, and which ones gave no answer.
pub(super) struct Turn {
    pub(super) place: usize,
    pub(super) of: usize,
    pub(super) silent: BTreeSet<usize>,
}

impl Turn {
    pub(super) fn next(&mut self) {
        self.place = (self.place + 1) % self.of;
    }

    pub(super) fn was_silent(&mut self) {
        self.silent.insert(self.place);
        self.next();
    }
}
