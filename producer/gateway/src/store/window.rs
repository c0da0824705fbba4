//! How many messages of a stream are on their way to us. The broker counts them and does not weigh them, so by their number
//! alone the largest must fit into the memory: of replies that is one, and each would take a way to the broker and back. Where
//! all that came is small there are more.

/// So many small ones in a row are expected to go on.
const ROW: u32 = 64;

/// How many may be on their way, by the size of those that came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    narrow: u16,
    wide: u16,
    /// In bytes: as many as are on their way at most fit into the memory.
    small: u64,
    /// So many small ones came last.
    row: u32,
    is_wide: bool,
}

impl Window {
    /// `narrow`: so many of the largest fit into `memory` bytes. `wide`: as many where they are small enough for that.
    pub(crate) fn new(memory: u64, narrow: u16, wide: u16) -> Self {
        let wide = wide.max(narrow);
        Self {
            narrow,
            wide,
            small: memory / u64::from(wide),
            row: 0,
            is_wide: false,
        }
    }

    /// The messages that may be on their way.
    pub(super) fn prefetch(&self) -> u16 {
        if self.is_wide { self.wide } else { self.narrow }
    }

    /// One came that has so many bytes. Returns whether another number may be on their way from now on.
    pub(super) fn saw(&mut self, bytes: usize) -> bool {
        let before = self.prefetch();
        self.row = match u64::try_from(bytes).is_ok_and(|bytes| bytes <= self.small) {
            true => self.row.saturating_add(1),
            false => 0,
        };
        self.is_wide = self.row >= ROW || self.is_wide && self.row > 0;
        self.prefetch() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_wide_after_many_small_ones_until_a_large_one() {
        let mut window = Window::new(3200, 1, 32);
        for _ in 1..ROW {
            assert!(!window.saw(100));
        }
        assert_eq!(window.prefetch(), 1);
        assert!(window.saw(100));
        assert_eq!(window.prefetch(), 32);
        assert!(!window.saw(100));
        assert!(window.saw(101));
        assert_eq!(window.prefetch(), 1);
        assert!(!window.saw(100));
    }

    #[test]
    fn where_many_of_the_largest_fit_it_never_changes() {
        let mut window = Window::new(1 << 30, 64, 32);
        for _ in 0..2 * ROW {
            assert!(!window.saw(1));
        }
        assert_eq!(window.prefetch(), 64);
    }
}
