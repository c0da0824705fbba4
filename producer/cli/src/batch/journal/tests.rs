use serde_json::value::RawValue;

use super::*;

fn row(number: u64, hash: &str) -> Row {
    Row {
        number,
        inputs: RawValue::from_string("{}".into()).unwrap(),
        hash: hash.into(),
    }
}

fn reply(kickoff_id: &str) -> Reply {
    Reply {
        kickoff_id: kickoff_id.into(),
        crew: "echo".into(),
        status: Status::Succeeded,
        result: None,
        error: None,
        attempt: 1,
        redrive: 0,
        executions: None,
        body_hash: None,
        worker: "w".into(),
        requested_at: None,
        started_at: None,
        finished_at: Utc::now(),
        meta: Some(RawValue::from_string("{\n\"laid\": \"out\"\n}".into()).unwrap()),
        chain: None,
    }
}

struct Files(tempfile::TempDir);

impl Files {
    fn open(&self, wanted: Option<&str>) -> Result<Journal, BatchError> {
        let crew = CrewName::parse("echo").unwrap();
        Journal::open(&self.0.path().join("out.jsonl"), &crew, wanted, false)
    }
}

#[test]
fn a_resumed_batch_knows_where_each_row_stands() {
    let files = Files(tempfile::tempdir().unwrap());
    let first = files.open(None).unwrap();
    let batch = first.batch().to_owned();
    for number in [1, 2, 3] {
        first.publishing(&row(number, "a")).unwrap();
    }
    first.published(1).unwrap();
    first.published(2).unwrap();
    first.answered(1, &reply(&format!("{batch}-1"))).unwrap();
    drop(first);

    let again = files.open(None).unwrap();
    assert_eq!(again.batch(), batch);
    let at = |number| again.state(&row(number, "a")).unwrap();
    assert_eq!(at(1), Some(RowState::Answered(Status::Succeeded)));
    assert!(matches!(at(2), Some(RowState::Published(_))));
    assert!(matches!(at(3), Some(RowState::InDoubt(Some(_)))));
    assert_eq!(at(4), None);
    assert!(
        again
            .state(&row(2, "b"))
            .unwrap_err()
            .contains("row 2 was changed")
    );
}

#[test]
fn a_lost_journal_leaves_the_batch_s_id_and_puts_the_rest_in_doubt() {
    let files = Files(tempfile::tempdir().unwrap());
    let first = files.open(Some("my-batch")).unwrap();
    first.answered(7, &reply("my-batch-7")).unwrap();
    drop(first);
    std::fs::remove_file(files.0.path().join("out.jsonl.journal")).unwrap();
    let again = files.open(None).unwrap();
    assert_eq!(again.batch(), "my-batch");
    assert_eq!(again.state(&row(8, "a")).unwrap(), Some(RowState::InDoubt(None)));
}

#[test]
fn rows_that_failed_are_run_again_under_ids_of_their_own() {
    let files = Files(tempfile::tempdir().unwrap());
    let (output, crew) = (files.0.path().join("out.jsonl"), CrewName::parse("echo").unwrap());
    let open = |retry_failed| Journal::open(&output, &crew, Some("b"), retry_failed).unwrap();
    let failed = |id: &str| Reply {
        status: Status::Failed,
        ..reply(id)
    };
    let first = open(false);
    for number in [1, 2] {
        first.publishing(&row(number, "a")).unwrap();
        first.published(number).unwrap();
    }
    first.answered(1, &reply("b-1")).unwrap();
    first.answered(2, &failed("b-2")).unwrap();
    drop(first);

    let second = open(true);
    let mended = row(2, "another");
    assert_eq!(second.state(&mended), Ok(None));
    assert_eq!(second.kickoff_id(2).unwrap().as_str(), "b-2-r1");
    assert_eq!(
        second.state(&row(1, "a")),
        Ok(Some(RowState::Answered(Status::Succeeded)))
    );
    second.publishing(&mended).unwrap();
    second.published(2).unwrap();
    drop(second);

    // Interrupted there: what is on its way is the second run.
    let third = open(false);
    assert!(matches!(third.state(&mended), Ok(Some(RowState::Published(_)))));
    assert_eq!(third.kickoff_id(2).unwrap().as_str(), "b-2-r1");
    third.answered(2, &failed("b-2-r1")).unwrap();
    drop(third);
    let fourth = open(true);
    assert_eq!(fourth.kickoff_id(2).unwrap().as_str(), "b-2-r2");
    assert_eq!(fourth.batch(), "b");
}

#[test]
fn another_batch_or_crew_is_refused() {
    let files = Files(tempfile::tempdir().unwrap());
    drop(files.open(Some("one")).unwrap());
    let refused = |result: Result<Journal, BatchError>| result.map(drop).unwrap_err().to_string();
    assert!(refused(files.open(Some("two"))).contains("belongs to the batch \"one\""));
    let other = CrewName::parse("other").unwrap();
    let output = files.0.path().join("out.jsonl");
    assert!(refused(Journal::open(&output, &other, None, false)).contains("of the crew \"echo\""));
    let fresh = Files(tempfile::tempdir().unwrap());
    assert!(refused(fresh.open(Some("a b"))).contains("--batch \"a b\" is not allowed"));
}
