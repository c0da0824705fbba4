//! Whose a returned message is.
//!
//! The client keeps returned messages in a line, and hands one out with each confirm that it reads, whosever that is
//! (42 of 1,000 went wrong, measured). RabbitMQ sends a return before its message's confirm. So what is confirmed was
//! not returned if its own return has not shown by the time that the line is known to have been empty after its
//! confirm.

use std::mem::take;

/// What tells a message from the others under way: exchange, routing key, `message_id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) exchange: String,
    pub(super) routing_key: String,
    pub(super) message_id: Option<String>,
}

/// The confirmed messages of one channel of which it is not known yet, each with something of the caller's.
pub(super) struct Returns<T> {
    open: Vec<Open<T>>,
    /// Returns whose messages are not found yet.
    returned: Vec<Identity>,
    /// In this round a confirm came without a return: the line was empty then.
    line_was_empty: bool,
}

struct Open<T> {
    message: Identity,
    item: T,
    /// The line was empty when it was confirmed, or after that.
    surely: bool,
    /// It was confirmed in an earlier round.
    known: bool,
}

impl<T> Default for Returns<T> {
    fn default() -> Self {
        Self {
            open: Vec::new(),
            returned: Vec::new(),
            line_was_empty: false,
        }
    }
}

impl<T> Returns<T> {
    /// Notes a confirm, and the return that came with it.
    pub(super) fn note(&mut self, returned: Option<Identity>) {
        self.line_was_empty |= returned.is_none();
        self.returned.extend(returned);
    }

    /// As [`Self::note`], for a message that may be returned itself.
    pub(super) fn confirm(&mut self, returned: Option<Identity>, message: Identity, item: T) {
        self.open.push(Open {
            message,
            item,
            surely: returned.is_none(),
            known: false,
        });
        self.note(returned);
    }

    /// Those of which it is known at the end of a round, when every confirm that has come is noted: `true` for what was
    /// returned.
    pub(super) fn known(&mut self, nothing_under_way: bool) -> Vec<(T, bool)> {
        let line_was_empty = take(&mut self.line_was_empty);
        let mut known = Vec::with_capacity(self.open.len());
        for mut one in take(&mut self.open) {
            if let Some(place) = self.returned.iter().position(|returned| *returned == one.message) {
                self.returned.swap_remove(place);
                known.push((one.item, true));
                continue;
            }
            // The confirms of one round came in an unknown order.
            one.surely |= one.known && line_was_empty;
            // Each return is followed by its own confirm, so the last confirm leaves no line.
            if one.surely || nothing_under_way {
                known.push((one.item, false));
            } else {
                one.known = true;
                self.open.push(one);
            }
        }
        known
    }

    /// A channel is lost, and what it might have said with it: of these it will never be known.
    pub(super) fn lose(&mut self) -> impl Iterator<Item = T> {
        self.returned.clear();
        self.line_was_empty = false;
        take(&mut self.open).into_iter().map(|one| one.item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(id: &str) -> Identity {
        Identity {
            exchange: "requests".into(),
            routing_key: "crew".into(),
            message_id: Some(id.into()),
        }
    }

    fn confirm(returns: &mut Returns<&'static str>, id: &'static str, with: Option<&str>) {
        returns.confirm(with.map(identity), identity(id), id);
    }

    #[test]
    fn each_is_told_its_own_whatever_its_confirm_brought() {
        let mut returns = Returns::default();
        confirm(&mut returns, "a", Some("b"));
        confirm(&mut returns, "b", None);
        // "a" was confirmed before "b", or after it: its own return may be to come.
        assert_eq!(returns.known(false), [("b", true)]);
        confirm(&mut returns, "c", None);
        assert_eq!(returns.known(false), [("a", false), ("c", false)]);
    }

    #[test]
    fn a_return_that_is_still_in_line_is_waited_for() {
        let mut returns = Returns::default();
        // Both were returned, and the second was confirmed first.
        confirm(&mut returns, "b", Some("a"));
        assert_eq!(returns.known(false), []);
        confirm(&mut returns, "a", Some("b"));
        assert_eq!(returns.known(true), [("b", true), ("a", true)]);
    }

    #[test]
    fn an_empty_line_says_something_of_what_was_confirmed_before() {
        let mut returns = Returns::default();
        confirm(&mut returns, "a", Some("x"));
        returns.note(None);
        assert_eq!(returns.known(false), [], "which of them was first?");
        returns.note(Some(identity("y")));
        assert_eq!(returns.known(false), []);
        returns.note(None);
        assert_eq!(returns.known(false), [("a", false)]);
    }

    #[test]
    fn with_nothing_under_way_the_line_is_empty() {
        let mut returns = Returns::default();
        confirm(&mut returns, "a", Some("x"));
        assert_eq!(returns.known(true), [("a", false)]);
    }

    #[test]
    fn of_a_lost_channel_nothing_is_known() {
        let mut returns = Returns::default();
        confirm(&mut returns, "a", Some("x"));
        assert_eq!(returns.known(false), []);
        assert_eq!(returns.lose().collect::<Vec<_>>(), ["a"]);
        assert_eq!(returns.known(true), []);
    }
}
