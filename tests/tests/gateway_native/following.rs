//! What a model says as it says it, and kickoffs that end with their readers.

use std::fs;

use crewfleet_tests::crews::plain_python;
use tempfile::TempDir;

use super::*;

/// A program that says a word again and again, until a file is there.
fn talker(stop: &TempDir) -> String {
    let script = format!(
        "import json, os, sys, time\n\
        sys.stdin.read()\n\
        def say(kind, data): os.write(3, json.dumps({{'type': kind, 'data': data}}).encode() + b'\\n')\n\
        said = 0\n\
        while True:\n\
        \x20   say('llm_stream_chunk', {{'call_id': 'c', 'chunk': f'{{said:06}} '}})\n\
        \x20   said += 1\n\
        \x20   if os.path.exists({file:?}): break\n\
        \x20   time.sleep(0.01)\n\
        say('llm_call_completed', {{'call_id': 'c'}})\n\
        print(json.dumps({{'raw': str(said)}}))\n",
        file = stop.path().join("stop")
    );
    let command = json!([plain_python(), "-c", script]);
    format!("runner = \"command\"\ncommand = {command}\n")
}

#[tokio::test]
async fn a_models_words_come_joined_while_somebody_follows() {
    let stop = tempfile::tempdir().expect("a folder");
    let site = Site::with(&[("talker", &talker(&stop))]).await;
    let caller = site.caller();
    let mut all = caller.follow("/events").await;
    let id = site.start(json!({"crew": "talker", "inputs": {}})).await;
    let seen = all.until("kickoff_started").await;
    assert!(
        seen.iter().all(|event| event.data["kickoff_id"] == json!(id)),
        "{seen:#?}"
    );
    let mut live = caller.follow(format!("/kickoffs/{id}/events")).await;
    live.until("llm_stream_chunk").await;
    let first = live.until("llm_stream_chunk").await;
    fs::write(stop.path().join("stop"), "").expect("a file");
    let rest = live.until("end").await;
    let words: Vec<_> = first
        .iter()
        .chain(&rest)
        .filter(|event| event.event == "llm_stream_chunk")
        .collect();
    let (reply, texts) = (
        result(&caller, &id).await,
        words.iter().map(|event| &event.data["data"]),
    );
    let mut offset = words[0].data["data"]["offset"].as_u64().expect("an offset");
    let mut joined = 0;
    for text in texts {
        let chunk = text["chunk"].as_str().expect("words");
        // Each says its number, seven characters long.
        assert_eq!(chunk.len() % 7, 0, "{text}");
        assert_eq!((&text["offset"], &text["call_id"]), (&json!(offset), &json!("c")));
        assert_eq!(chunk[..6].parse::<u64>().expect("a number"), offset / 7);
        joined += usize::from(chunk.len() > 7);
        offset += chunk.len() as u64;
    }
    assert!(joined > 0, "they come one by one");
    assert_eq!(
        json!((offset / 7).to_string()),
        reply["result"]["raw"],
        "to the last one"
    );
    // Who goes on at another place has them again, since they are events like others.
    let again = site.caller().with_header("Last-Event-ID", &words[0].id);
    let again = again
        .follow(format!("/kickoffs/{id}/events"))
        .await
        .until("end")
        .await;
    assert_eq!(again, [first[first.len()..].to_vec(), rest].concat());
    // A filter's stream has none, and of one that nobody follows there are none.
    let unfollowed = site.start(json!({"crew": "talker", "inputs": {}})).await;
    result(&caller, &unfollowed).await;
    let mut finished = all.until("kickoff_finished").await;
    finished.extend(all.until("kickoff_finished").await);
    assert!(
        finished.iter().all(|event| event.event != "llm_stream_chunk"),
        "{finished:#?}"
    );
    let (_, page) = caller.get(format!("/kickoffs/{unfollowed}/events")).await;
    let items = page["items"].as_array().expect("items");
    assert!(items.iter().any(|event| event["type"] == "llm_call_completed"));
    assert!(
        items.iter().all(|event| event["type"] != "llm_stream_chunk"),
        "{page:#}"
    );
}

#[tokio::test]
async fn a_kickoff_is_cancelled_when_its_last_reader_is_gone_for_good() {
    let site = Site::with(&[]).await;
    let second = GatewayProcess::ready(&site.cli).await;
    let (here, there) = (site.caller(), second.native(&site.token));
    let sleep = json!({"crew": "sleep", "inputs": {"seconds": 600}});
    let (kept, left) = (site.start(sleep.clone()).await, site.start(sleep).await);
    let path = |id: &str| format!("/kickoffs/{id}/events?on_disconnect=cancel&grace_s=1");
    let plain = there.follow(format!("/kickoffs/{kept}/events")).await;
    let mut reader = here.follow(path(&kept)).await;
    reader.until("kickoff_started").await;
    drop(reader);
    let mut reader = here.follow(path(&left)).await;
    reader.until("kickoff_started").await;
    drop(reader);
    let reply = result(&here, &left).await;
    assert_eq!(reply["status"], "cancelled", "{reply}");
    // The other one was left first, and is still read at the other gateway.
    let (_, kickoff) = here.get(format!("/kickoffs/{kept}")).await;
    assert_eq!(kickoff["status"], "running", "{kickoff}");
    drop(plain);
    let reply = result(&here, &kept).await;
    assert_eq!(reply["status"], "cancelled", "{reply}");
    let cancelled = |line: &str| line.contains("its readers have gone").then_some(());
    let gateways = [site.gateway.process(), second.process()];
    let told = futures_util::future::select_all(
        gateways.map(|gateway| Box::pin(gateway.stderr.first("that it is cancelled", cancelled))),
    );
    told.await;
    // What is asked for by mistake is refused.
    for (query, expected) in [
        ("on_disconnect=cancel", "Accept: text/event-stream"),
        ("on_disconnect=stop", "continue or cancel"),
        ("grace_s=3", "on_disconnect=cancel alone"),
        ("on_disconnect=cancel&grace_s=4000", "0 to 3600"),
    ] {
        let (status, answer) = here.get(format!("/kickoffs/{kept}/events?{query}")).await;
        assert_eq!(status, 422, "{query}: {answer}");
        assert!(
            answer["detail"].as_str().expect("why").contains(expected),
            "{answer}"
        );
    }
    let args = ["token", "create", "reader", "--all-crews", "--scope", "read"];
    let token = site.cli.run(&args).await.success();
    let reader = site.gateway.native(&token);
    reader.answers(&path(&kept), 403).await;
}
