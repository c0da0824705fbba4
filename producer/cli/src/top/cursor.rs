//! Which row of a list is chosen. It stays at what was chosen when rows come and go.

/// The place in a list of rows with keys.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    index: usize,
    key: Option<String>,
}

impl Cursor {
    /// The row that is chosen of these.
    pub(crate) fn index(&self, keys: &[String]) -> Option<usize> {
        let at_key = self
            .key
            .as_ref()
            .and_then(|key| keys.iter().position(|other| other == key));
        let last = keys.len().checked_sub(1)?;
        Some(at_key.unwrap_or(self.index.min(last)))
    }

    /// Moves by so many rows, down where that is more than 0.
    pub(crate) fn step(&mut self, keys: &[String], by: isize) {
        let Some(at) = self.index(keys) else {
            return;
        };
        self.index = at.saturating_add_signed(by).min(keys.len() - 1);
        self.key = keys.get(self.index).cloned();
    }

    /// Keeps to the row that is chosen of these.
    pub(crate) fn settle(&mut self, keys: &[String]) {
        self.step(keys, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_at_its_row_and_within_the_list() {
        let keys = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
        let mut cursor = Cursor::default();
        assert_eq!(cursor.index(&[]), None);
        cursor.step(&keys("abc"), 1);
        assert_eq!(cursor.index(&keys("abc")), Some(1));
        assert_eq!(cursor.index(&keys("xyabc")), Some(3));
        cursor.settle(&keys("xyabc"));
        assert_eq!(cursor.index(&keys("xyac")), Some(3));
        cursor.step(&keys("xyac"), -9);
        assert_eq!(cursor.index(&keys("xyac")), Some(0));
        cursor.step(&keys("xyac"), 9);
        assert_eq!(cursor.index(&keys("xyac")), Some(3));
    }
}
