//! The form of a line: one JSON object with `level`, `target`, `time`, the event's fields, and those of the spans
//! around it.
//!
//! The formats of `tracing-subscriber` keep the fields of spans in an object of their own. `json-subscriber` 0.3.1 can
//! flatten them, but writes a name twice that an event and a span have (`"worker":"b",…,"worker":"a"`): readers of JSON
//! take the last, which is the span's. It also writes the span's own name, as a field `name`.

use std::fmt::{Error, Result, Write};

use serde::ser::{Error as _, SerializeMap, Serializer as _};
use serde_json::ser::Serializer;
use serde_json::{Map, Value};
use tracing::field::FieldSet;
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_serde::SerdeMapVisitor;
use tracing_subscriber::fmt::format::{FormatEvent, JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// What every line has, unless its event has something of that name.
const OF_EVERY_LINE: [&str; 3] = ["level", "target", "time"];
/// Most lines fit.
const LENGTH: usize = 512;

pub(super) struct JsonLine;

impl<S> FormatEvent<S, JsonFields> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> Result {
        let mut line = of_event(event).map_err(|_| Error)?;
        // What stands nearer to the event, and so earlier here, is what a name means.
        let mut said = vec![event.metadata().fields()];
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<JsonFields>>() {
                let names = span.metadata().fields();
                append(&mut line, fields, names, &said)?;
                said.push(names);
            }
        }
        writeln!(writer, "{line}}}")
    }
}

/// All but the brace at its end.
fn of_event(event: &Event<'_>) -> serde_json::Result<String> {
    let normalized = event.normalized_metadata();
    let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
    let mut time = String::new();
    // Writing to a string does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let mut line = Vec::with_capacity(LENGTH);
    let mut serializer = Serializer::new(&mut line);
    let mut map = serializer.serialize_map(None)?;
    let of_every_line = [metadata.level().as_str(), metadata.target(), &time];
    for (name, value) in OF_EVERY_LINE.into_iter().zip(of_every_line) {
        if event.metadata().fields().field(name).is_none() {
            map.serialize_entry(name, value)?;
        }
    }
    let mut fields = SerdeMapVisitor::new(map);
    event.record(&mut fields);
    fields.take_serializer()?.end()?;
    line.pop();
    String::from_utf8(line).map_err(serde_json::Error::custom)
}

/// Appends the fields of a span, which are the text of a JSON object, without those whose names stand in the line
/// already. `names` and `said` are those that may be there: of the span, and of what is in the line.
fn append(line: &mut String, fields: &str, names: &FieldSet, said: &[&FieldSet]) -> Result {
    let may_stand =
        |name: &str| OF_EVERY_LINE.contains(&name) || said.iter().any(|set| set.field(name).is_some());
    let rest;
    let mut fields = fields;
    if names.iter().any(|name| may_stand(name.name())) {
        let parsed = |text: &str| serde_json::from_str::<Map<String, Value>>(text).map_err(|_| Error);
        let (stands, mut all) = (parsed(&format!("{line}}}"))?, parsed(fields)?);
        all.retain(|name, _| !stands.contains_key(name));
        rest = Value::Object(all).to_string();
        fields = &rest;
    }
    match fields.trim_start_matches('{').strip_suffix('}') {
        None | Some("") => Ok(()),
        Some(fields) => write!(line, ",{fields}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tracing::{info, info_span, subscriber};
    use tracing_subscriber::fmt;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` writes, line by line, without the time.
    fn lines(log: impl FnOnce()) -> Vec<Value> {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = fmt::layer()
            .fmt_fields(JsonFields::new())
            .event_format(JsonLine)
            .with_writer(move || writer.clone());
        subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let text = String::from_utf8(kept.0.lock().expect("no panic").clone()).expect("UTF-8");
        let line = |line: &str| {
            let names = line.matches("\":").count();
            let mut line: Value = serde_json::from_str(line).expect("a line of JSON");
            assert_eq!(
                line.as_object().map(Map::len),
                Some(names),
                "a name stands twice in {line}"
            );
            let time = line.as_object_mut().and_then(|line| line.remove("time"));
            assert!(time.expect("a time").as_str().expect("text").ends_with('Z'));
            assert_eq!(
                line.as_object_mut().and_then(|line| line.remove("target")),
                Some(json!(module_path!()))
            );
            line
        };
        text.lines().map(line).collect()
    }

    #[test]
    fn fields_of_event_and_spans_stand_side_by_side() {
        let lines = lines(|| {
            info!(count = 3, "alone {}", "\"quoted\"\n");
            let outer = info_span!("kickoff", kickoff_id = "7", attempt = 2_u32).entered();
            info!("in one");
            let empty = info_span!("no fields").entered();
            let inner = info_span!("crew", crew = %"marketing", late = tracing::field::Empty).entered();
            inner.record("late", true);
            info!(error = ?Some(1), "in three");
            drop((inner, empty, outer));
        });
        let expected = [
            json!({"level": "INFO", "message": "alone \"quoted\"\n", "count": 3}),
            json!({"level": "INFO", "message": "in one", "kickoff_id": "7", "attempt": 2}),
            json!({"level": "INFO", "message": "in three", "error": "Some(1)", "kickoff_id": "7", "attempt": 2, "crew": "marketing", "late": true}),
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_name_stands_once_and_means_what_is_nearest() {
        let kept = lines(|| {
            let _outer = info_span!("outer", crew = "far", attempt = 1, level = "deep").entered();
            let _inner = info_span!("inner", crew = "near", worker = "a").entered();
            info!(worker = "b", attempt = None::<u32>, "said");
            info!(level = 7, "an event's own");
        });
        let line = |level, message, worker| json!({"level": level, "message": message, "worker": worker, "crew": "near", "attempt": 1});
        let expected = [
            line(json!("INFO"), "said", "b"),
            line(json!(7), "an event's own", "a"),
        ];
        assert_eq!(kept, expected);
    }
}
