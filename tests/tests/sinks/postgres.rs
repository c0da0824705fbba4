//! Sinks of kind postgres, with a real one.

use std::fs;

use crewfleet_tests::certificates::Authority;
use crewfleet_tests::postgres::Postgres;
use nix::sys::signal::Signal;
use serde_json::json;

use super::{Site, logged, numbered};

fn toml(url: &str) -> String {
    format!(
        "[sinks.warehouse]\nkind = \"postgres\"\nurl = \"{url}\"\non = [\"replies\", \"kickoff_started\"]\n"
    )
}

async fn with_tables() -> (Site, Postgres) {
    let postgres = Postgres::start().await;
    let site = Site::new(&toml(&postgres.url())).await;
    let ddl = site.cli.run(&["sinks", "ddl"]).await.success();
    postgres.sql(&ddl);
    (site, postgres)
}

/// Waits until the table has so many rows.
async fn has(postgres: &Postgres, table: &str, rows: usize) {
    let count = || postgres.sql(&format!("SELECT count(*) FROM {table}"));
    crewfleet_tests::process::until(&format!("{rows} rows of {table}"), || {
        (count() == rows.to_string()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_is_lost_and_nothing_is_there_twice_when_the_database_was_away() {
    let (site, mut postgres) = with_tables().await;
    let sinks = site.sinks(&["warehouse"]).await;
    let _worker = site.worker().await;
    let (before, during) = (numbered("k-a", 20), numbered("k-b", 20));
    for id in &before {
        site.client
            .request("echo", id, &json!({"text": "a\u{0}b", "number": 1.5}))
            .await;
    }
    has(&postgres, "crewfleet_kickoffs", 20).await;
    postgres.halt().await;
    for id in &during {
        site.client
            .request("fail", id, &json!({"message": "no flour"}))
            .await;
    }
    logged(
        &sinks,
        "what the sink hands on to is away; messages wait",
        &[("sink", "warehouse")],
    )
    .await;
    // It holds some, and is killed.
    sinks.signal(Signal::SIGKILL);
    sinks.exit().await;
    let sinks = site.cli.spawn(&["sinks"]);
    logged(
        &sinks,
        "what the sink hands on to is away; messages wait",
        &[("sink", "warehouse")],
    )
    .await;
    postgres.restart().await;
    has(&postgres, "crewfleet_kickoffs", 40).await;
    has(&postgres, "crewfleet_events", 40).await;
    site.queue_has("sinks.warehouse", 0).await;
    let row = postgres.sql(
        "SELECT crew, status, redrive, result->'json'->>'number', error, finished_at >= started_at, \
         position(U&'\\FFFD' IN result->'json'->>'text') FROM crewfleet_kickoffs WHERE kickoff_id = 'k-a7'",
    );
    assert_eq!(row, "echo|succeeded|0|1.5||t|2");
    let error =
        postgres.sql("SELECT error->>'kind', result FROM crewfleet_kickoffs WHERE kickoff_id = 'k-b7'");
    assert_eq!(error, "failed|");
    // Once more all of it: the same rows.
    let said = site
        .cli
        .run(&["sinks", "replay", "warehouse", "--since", "1h"])
        .await
        .ended_with(1);
    // No gateway has made the stream of events here.
    said.said(&[".history, which keeps events", "a gateway makes that of events"]);
    site.queue_has("sinks.warehouse", 0).await;
    logged(
        &sinks,
        "what the sink hands on to is back",
        &[("sink", "warehouse")],
    )
    .await;
    has(&postgres, "crewfleet_kickoffs", 40).await;
    sinks.signal(Signal::SIGTERM);
    assert_eq!(sinks.exit().await.code(), Some(0));
    postgres.stop().await;
}

#[tokio::test]
async fn a_table_that_differs_and_a_row_that_cannot_be_are_told() {
    let (site, postgres) = with_tables().await;
    postgres.sql("ALTER TABLE crewfleet_kickoffs RENAME COLUMN status TO state");
    let sinks = site.cli.spawn(&["sinks"]);
    let away = "what the sink hands on to is away; messages wait";
    let told = logged(&sinks, away, &[("sink", "warehouse")]).await;
    let why = told["why"].as_str().unwrap();
    assert!(
        why.contains("table crewfleet_kickoffs has no column status (text)") && why.contains("sinks ddl"),
        "{why}"
    );
    postgres.sql(
        "ALTER TABLE crewfleet_kickoffs RENAME COLUMN state TO status; \
         ALTER TABLE crewfleet_kickoffs ADD CONSTRAINT mine CHECK (kickoff_id <> 'k-2')",
    );
    super::take_messages(&sinks, "warehouse").await;
    let _worker = site.worker().await;
    for id in numbered("k-", 5) {
        site.client.request("echo", &id, &json!({"A": 1})).await;
    }
    let letter = site.client.dead_letter("sinks.warehouse").await;
    assert_eq!(letter.correlation_id(), "k-2");
    let error = letter.headers["x-kickoff-error"].as_str().unwrap();
    assert!(error.contains("\"mine\"") && error.contains("23514"), "{error}");
    has(&postgres, "crewfleet_kickoffs", 4).await;
    postgres.stop().await;
}

#[tokio::test]
async fn a_url_that_is_none_is_refused_without_its_password() {
    let site = Site::new("").await;
    fs::write(site.cli.dir().join("url"), "postgresql://u:hunter2@h:hunter2/").unwrap();
    site.configure("[sinks.warehouse]\nkind = \"postgres\"\nurl_file = \"url\"\n");
    let said = site
        .cli
        .run(&["sinks"])
        .await
        .ended_with(2)
        .said(&["sinks.warehouse.url", "postgresql://USER:PASSWORD@"]);
    assert!(!said.contains("hunter2"), "{said}");
}

#[tokio::test]
async fn over_tls_the_server_s_certificate_is_checked() {
    let (site, mut postgres) = with_tables().await;
    let authority = Authority::new("postgres");
    postgres
        .speak_tls(&authority.server("postgres", &["127.0.0.1"]))
        .await;
    let required = toml(&(postgres.url() + "?sslmode=require"));
    site.configure(&required);
    let test = ["sinks", "test", "warehouse"];
    let refused = site.cli.run(&test).await.ended_with(1);
    refused.said(&["invalid peer certificate", "messages would wait"]);
    site.configure(&format!(
        "{required}ca_file = \"{}\"\n",
        authority.file().display()
    ));
    site.cli
        .run(&test)
        .await
        .ended_with(0)
        .said(&["sink warehouse has taken the sample"]);
    assert_eq!(
        postgres.sql("SELECT crew FROM crewfleet_kickoffs"),
        "crewfleet-test"
    );
    postgres.stop().await;
}
