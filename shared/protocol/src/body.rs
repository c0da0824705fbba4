//! The bodies of messages that we write.

use serde::Serialize;

/// A message of the contract that we write. It has a JSON for certain: no body is left empty, or out, for want of one.
///
/// Writing JSON to memory fails for keys that are no text, and for types that have no JSON. The types below have neither;
/// what is opaque in them is JSON already ([`serde_json::value::RawValue`]). A test writes each form that they have.
pub trait Body: Serialize + sealed::Sealed {
    /// Its JSON.
    fn body(&self) -> Vec<u8> {
        #[expect(
            clippy::expect_used,
            reason = "the types below have text keys only, and a JSON each"
        )]
        serde_json::to_vec(self).expect("a message of the contract has a JSON")
    }
}

/// Keeps other crates from making messages of their own.
pub(super) mod sealed {
    /// A message of ours.
    pub trait Sealed {}
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use chrono::{DateTime, Utc};
    use serde::de::DeserializeOwned;
    use serde_json::value::to_raw_value;

    use super::*;
    use crate::batch::{BatchClosed, BatchEnded, BatchSpec, BatchStopped, OnItemFailure, Threshold};
    use crate::{
        About, Answer, Answered, BatchChange, BatchNews, ChainPlace, Command, Control, CrewStatus, Event,
        FilePart, Following, Heartbeat, HeldKickoff, HeldState, KickoffError, KickoffResult, KickoffsAsked,
        NextStep, Query, Question, Reply, ReplyChain, SchemaAsked, Status, TaskOutput,
    };

    /// Whatever times and numbers a message holds.
    const TIMES: [DateTime<Utc>; 2] = [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC];

    fn written<T: Body + DeserializeOwned>(message: &T) {
        let body = message.body();
        assert!(
            serde_json::from_slice::<serde_json::Value>(&body)
                .unwrap()
                .is_object()
        );
    }

    fn about() -> About {
        About {
            kickoff_id: "a".into(),
            redrive: 0,
            attempt: Some(u32::MAX),
            body_hash: None,
            question: None,
            worker: "w".into(),
        }
    }

    fn held() -> HeldKickoff {
        HeldKickoff {
            kickoff_id: "a".into(),
            crew: None,
            state: HeldState::Ended,
            attempt: None,
            redrive: 0,
            requested_at: Some(TIMES[0]),
            started_at: Some(TIMES[1]),
            body_hash: String::new(),
            chain: None,
        }
    }

    fn commands() -> Vec<Command> {
        let all = vec![
            Command::Cancel {
                kickoff_id: "a".into(),
                redrive: Some(1),
                crew: Some("c".into()),
            },
            Command::Pause {
                crew: "c".into(),
                renews: Some("id".into()),
            },
            Command::Resume { crew: "c".into() },
            Command::Drain { worker: "w".into() },
            Command::Whose(about()),
            Command::Mine(about()),
            Command::Settled(about()),
            Command::Released(about()),
            Command::Started(about()),
            Command::Marker { worker: "w".into() },
        ];
        for command in &all {
            // A new form belongs into the list above.
            match command {
                Command::Cancel { .. } | Command::Pause { .. } | Command::Resume { .. } => {}
                Command::Drain { .. } | Command::Marker { .. } | Command::Started(_) => {}
                Command::Whose(_) | Command::Mine(_) | Command::Settled(_) | Command::Released(_) => {}
            }
        }
        all
    }

    #[test]
    fn commands_questions_and_answers_of_each_form_have_a_json() {
        for command in commands() {
            for time in TIMES {
                let (id, command) = (String::new(), command.clone());
                written(&Control { id, time, command });
            }
        }
        let part = FilePart {
            kickoff_id: "a".into(),
            redrive: None,
            path: "p".into(),
            sha256: "s".into(),
            offset: u64::MAX,
            length: u64::MAX,
        };
        let all = Question::Kickoffs(KickoffsAsked::default());
        let follow = Question::Follow(Following {
            follower: "f".into(),
            kickoffs: vec!["a".into()],
            for_s: u32::MAX,
        });
        let schema = Question::InputsSchema(SchemaAsked {
            crew: "c".into(),
            hash: "h".into(),
        });
        for question in [Question::File(part), Question::Beat, all, schema, follow] {
            match question {
                Question::File(_) | Question::Beat | Question::Kickoffs(_) => {}
                Question::InputsSchema(_) | Question::Follow(_) => {}
            }
            written(&Query::new(Some("w"), question));
        }
        let missing = Answered::Missing { reason: "r".into() };
        let kickoffs = Answered::Kickoffs {
            kickoffs: vec![held()],
            left_out: u64::MAX,
        };
        let schema = Answered::InputsSchema { schema: "{}".into() };
        for answer in [Answered::part(u64::MAX, u64::MAX, b""), missing, kickoffs, schema] {
            match answer {
                Answered::File { .. }
                | Answered::Missing { .. }
                | Answered::Kickoffs { .. }
                | Answered::InputsSchema { .. } => written(&Answer {
                    id: String::new(),
                    time: TIMES[0],
                    worker: "w".into(),
                    answer,
                }),
            }
        }
    }

    #[test]
    fn news_of_batches_of_each_form_have_a_json() {
        let spec = BatchSpec {
            crew: crate::CrewName::parse("c").unwrap(),
            items: u64::MAX,
            then: None,
            on_item_failure: OnItemFailure::Threshold(Threshold::Fraction(f64::NAN)),
            reply_to: None,
            meta: Some(to_raw_value(&["raw"]).unwrap()),
        };
        let stopped = BatchStopped {
            by: "g".into(),
            why: String::new(),
        };
        let ended = BatchEnded {
            kickoff_id: None,
            problem: Some("p".into()),
        };
        let closed = BatchChange::Closed(BatchClosed { refused: u64::MAX });
        for change in [
            BatchChange::Opened(spec),
            BatchChange::Stopped(stopped),
            BatchChange::Ended(ended),
            closed,
        ] {
            match change {
                BatchChange::Opened(_) | BatchChange::Closed(_) => {}
                BatchChange::Stopped(_) | BatchChange::Ended(_) => {}
            }
            let body = BatchNews {
                batch: "b".into(),
                time: TIMES[1],
                change,
            };
            assert!(!body.body().is_empty());
        }
    }

    #[test]
    fn replies_events_and_heartbeats_have_a_json() {
        let [from, to] = TIMES;
        let raw = || to_raw_value(&["raw"]).unwrap();
        let place = ChainPlace {
            id: "a".into(),
            parent: None,
            step: 0,
        };
        let result = KickoffResult {
            json: Some(raw()),
            tasks: vec![TaskOutput {
                name: None,
                agent: None,
                description: None,
                expected_output: None,
                output_format: None,
                raw: None,
                json: Some(raw()),
            }],
            files_until: Some(to),
            ..KickoffResult::default()
        };
        written(&Reply {
            kickoff_id: "a".into(),
            crew: "c".into(),
            status: Status::Succeeded,
            result: Some(result),
            error: Some(KickoffError::new("k", "\u{0}").with_detail(&f64::NAN)),
            attempt: 1,
            redrive: 0,
            executions: Some(1),
            body_hash: None,
            worker: "w".into(),
            requested_at: Some(from),
            started_at: Some(to),
            finished_at: to,
            meta: Some(raw()),
            chain: Some(ReplyChain {
                place: place.clone(),
                next: Some(NextStep {
                    kickoff_id: "b".into(),
                    crew: "c".into(),
                    step: u32::MAX,
                }),
                left_out: 0,
                problem: Some(String::new()),
            }),
        });
        written(&Event {
            kickoff_id: "a".into(),
            crew: "c".into(),
            attempt: 1,
            redrive: 1,
            sequence: u64::MAX,
            time: from,
            event_type: "t".into(),
            data: raw(),
            meta: Some(raw()),
            chain: Some(place),
        });
        let crew = CrewStatus {
            name: "c".into(),
            runner: "builtin".into(),
            concurrency: 1,
            in_flight: 0,
            paused: false,
            timeout_s: f64::INFINITY,
            inputs: Some(vec!["i".into()]),
            required_inputs: None,
            inputs_schema: Some("h".into()),
            isolation: None,
            isolation_reasons: vec![],
            files: None,
            working_dir: None,
            trouble: None,
            waits_for_room: false,
            held: Some(u32::MAX),
            oldest_s: Some(f64::NAN),
        };
        written(&Heartbeat {
            worker: "w".into(),
            host: "h".into(),
            version: "v".into(),
            time: to,
            started_at: from,
            draining: false,
            crews: vec![crew],
            memory_bytes: Some(u64::MAX),
            memory_limit_bytes: None,
        });
    }
}
