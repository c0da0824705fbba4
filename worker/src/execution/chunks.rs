//! The pieces of models' answers, joined: a model says a word at a time, and an event a word would cost more than the word.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// So many answers of one attempt come at once at most; of more, those that were silent longest begin anew.
const CALLS: usize = 64;
/// A text that is so long goes out without waiting for more, in bytes.
const FULL: usize = 4 * 1024;

/// The answers that models give at present in one attempt.
#[derive(Default)]
pub(super) struct Chunks {
    calls: VecDeque<Call>,
}

/// An answer on its way.
struct Call {
    event_type: String,
    /// Which call of which model of whom.
    about: Map<String, Value>,
    /// What is not sent yet.
    text: String,
    /// How many characters came before that.
    offset: u64,
}

/// A piece of an answer that is due.
pub(super) struct Joined {
    pub(super) event_type: String,
    pub(super) data: Value,
}

impl Chunks {
    /// Takes in a piece. Where nobody follows, its length alone is noted. `None`: it is no piece of an answer.
    pub(super) fn push(
        &mut self,
        event_type: &str,
        data: &RawValue,
        is_followed: bool,
    ) -> Option<Vec<Joined>> {
        let mut about: Map<String, Value> = serde_json::from_str(data.get()).ok()?;
        let Some(Value::String(chunk)) = about.remove("chunk") else {
            return None;
        };
        let known = self
            .calls
            .iter()
            .position(|call| call.event_type == event_type && call.about == about);
        let mut call = known
            .and_then(|at| self.calls.remove(at))
            .unwrap_or_else(|| Call {
                event_type: event_type.to_owned(),
                about,
                text: String::new(),
                offset: 0,
            });
        let mut due = Vec::new();
        if is_followed {
            call.text.push_str(&chunk);
            while call.text.len() >= FULL {
                due.push(call.take());
            }
        } else {
            if !call.text.is_empty() {
                due.push(call.take());
            }
            call.offset += characters(&chunk);
        }
        if self.calls.len() == CALLS
            && let Some(oldest) = self.calls.pop_front()
        {
            due.extend(oldest.rest());
        }
        self.calls.push_back(call);
        Some(due)
    }

    /// All that waits: before anything else is told, or when it has waited long enough.
    pub(super) fn take(&mut self) -> Vec<Joined> {
        let waiting = self.calls.iter_mut().filter(|call| !call.text.is_empty());
        waiting.map(Call::take).collect()
    }

    /// Whether anything waits.
    pub(super) fn is_waiting(&self) -> bool {
        self.calls.iter().any(|call| !call.text.is_empty())
    }

    /// A call has ended: another of the same model begins anew.
    pub(super) fn ended(&mut self, data: &RawValue) {
        #[derive(Deserialize)]
        struct Ended {
            call_id: Option<Value>,
        }
        let ended = serde_json::from_str::<Ended>(data.get())
            .ok()
            .and_then(|ended| ended.call_id);
        self.calls
            .retain(|call| call.about.get("call_id") != ended.as_ref());
    }
}

impl Call {
    /// The next piece: no longer than what is [`FULL`], and of whole characters.
    fn take(&mut self) -> Joined {
        let end = self.text.floor_char_boundary(FULL);
        let rest = self.text.split_off(end);
        let chunk = std::mem::replace(&mut self.text, rest);
        let offset = self.offset;
        self.offset += characters(&chunk);
        let mut data = self.about.clone();
        data.insert("chunk".into(), json!(chunk));
        data.insert("offset".into(), json!(offset));
        Joined {
            event_type: self.event_type.clone(),
            data: Value::Object(data),
        }
    }

    fn rest(mut self) -> Option<Joined> {
        (!self.text.is_empty()).then(|| self.take())
    }
}

fn characters(text: &str) -> u64 {
    text.chars().count() as u64
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::value::to_raw_value;

    use super::*;

    const TYPE: &str = "llm_stream_chunk";

    fn push(chunks: &mut Chunks, call: &str, chunk: &str, is_followed: bool) -> Vec<(String, u64)> {
        let data = to_raw_value(&json!({"call_id": call, "agent": "a", "chunk": chunk})).unwrap();
        texts(chunks.push(TYPE, &data, is_followed).unwrap())
    }

    fn texts(joined: Vec<Joined>) -> Vec<(String, u64)> {
        let text = |joined: Joined| {
            assert_eq!((&*joined.event_type, &joined.data["agent"]), (TYPE, &json!("a")));
            let chunk = joined.data["chunk"].as_str().unwrap().to_owned();
            (chunk, joined.data["offset"].as_u64().unwrap())
        };
        joined.into_iter().map(text).collect()
    }

    fn one(text: &str, offset: u64) -> (String, u64) {
        (text.to_owned(), offset)
    }

    #[test]
    fn pieces_of_each_answer_are_joined_and_say_where_they_stand() {
        let mut chunks = Chunks::default();
        for (call, chunk) in [("1", "Hé"), ("2", "x"), ("1", "llo")] {
            assert!(push(&mut chunks, call, chunk, true).is_empty());
        }
        assert_eq!(texts(chunks.take()), [one("x", 0), one("Héllo", 0)]);
        assert!(!chunks.is_waiting() && chunks.take().is_empty());
        push(&mut chunks, "1", "!", true);
        assert_eq!(texts(chunks.take()), [one("!", 5)]);
        chunks.ended(&to_raw_value(&json!({"call_id": "1"})).unwrap());
        push(&mut chunks, "1", "a", true);
        push(&mut chunks, "2", "b", true);
        assert_eq!(texts(chunks.take()), [one("a", 0), one("b", 1)]);
    }

    #[test]
    fn what_nobody_follows_is_counted_only() {
        let mut chunks = Chunks::default();
        push(&mut chunks, "1", "abc", false);
        assert!(!chunks.is_waiting());
        push(&mut chunks, "1", "de", true);
        assert_eq!(
            push(&mut chunks, "1", "f", false),
            [one("de", 3)],
            "it was followed"
        );
        push(&mut chunks, "1", "g", true);
        assert_eq!(texts(chunks.take()), [one("g", 6)]);
    }

    #[test]
    fn long_texts_go_out_in_pieces_of_whole_characters() {
        let mut chunks = Chunks::default();
        let text = "ß".repeat(FULL + 1);
        let due = push(&mut chunks, "1", &format!("a{text}"), true);
        let rest = texts(chunks.take());
        assert!(due.iter().chain(&rest).all(|(text, _)| text.len() <= FULL));
        let whole: String = due.iter().chain(&rest).map(|(text, _)| &**text).collect();
        assert_eq!(whole, format!("a{text}"));
        assert_eq!(rest[0].1, characters(&whole) - characters(&rest[0].0));
    }

    #[test]
    fn ever_more_answers_are_forgotten_and_none_of_their_text_is() {
        let mut chunks = Chunks::default();
        for call in 0..=CALLS {
            let due = push(&mut chunks, &call.to_string(), "a", true);
            assert_eq!(due.len(), usize::from(call == CALLS));
        }
        assert_eq!(texts(chunks.take()).len(), CALLS);
    }

    #[test]
    fn what_is_no_piece_of_an_answer_is_not_taken_in() {
        for data in [json!({"text": "a"}), json!({"chunk": 1}), json!([1])] {
            let data = to_raw_value(&data).unwrap();
            assert!(Chunks::default().push(TYPE, &data, true).is_none());
        }
    }
}
