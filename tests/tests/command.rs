//! Any program as a crew.

use crewfleet_tests::broker::{Namespace, broker};
use crewfleet_tests::client::PlainClient;
use crewfleet_tests::crews::plain_python;
use crewfleet_tests::worker::WorkerProcess;
use nix::sys::signal::Signal;
use serde_json::json;

#[tokio::test]
async fn a_command_gets_the_request_and_its_group_is_killed() {
    let namespace = Namespace::new();
    let script = "import json, os, sys, subprocess, time\n\
        request = json.load(sys.stdin)\n\
        os.write(3, b'{\"type\": \"step_done\", \"data\": {\"n\": 1}}\\n')\n\
        sys.stderr.write('a line for the log\\n')\n\
        if request['inputs'].get('hang'):\n\
        \x20   subprocess.Popen(['sleep', '1000'], start_new_session=True)\n\
        \x20   time.sleep(1000)\n\
        if 'exit' in request['inputs']: sys.exit(request['inputs']['exit'])\n\
        if 'error' in request['inputs']: print(json.dumps({'error': {'message': 'refused', 'kind': 'mine'}})); sys.exit(1)\n\
        print(request['inputs'].get('say') or json.dumps({'raw': request['kickoff_id'], 'json': request['inputs']}))\n";
    let command = json!([plain_python(), "-c", script]);
    let crew = format!("runner = \"command\"\ncommand = {command}\n");
    let worker = WorkerProcess::builder(&broker().await.url(), &namespace)
        .crew("program", &crew)
        .crew("hanging-program", &format!("{crew}timeout_s = 3\n"))
        .ready()
        .await;
    let client = PlainClient::connect(&broker().await.url(), &namespace).await;
    let mut replies = client.replies(&["#"]).await;
    let mut events = client.subscribe("events", &["c-1.step_done"]).await;
    for (id, inputs) in [
        ("c-1", json!({"a": 1})),
        ("c-2", json!({"exit": 5})),
        ("c-3", json!({"error": true})),
        ("c-4", json!({"say": "no json"})),
    ] {
        client.request("program", id, &inputs).await;
    }
    client
        .request("hanging-program", "c-5", &json!({"hang": true}))
        .await;
    let first = replies.of("c-1").await.json();
    assert_eq!(
        (&first["result"]["raw"], &first["result"]["json"]),
        (&json!("c-1"), &json!({"a": 1}))
    );
    assert_eq!(events.next().await.json()["data"], json!({"n": 1}));
    let error = async |replies: &mut crewfleet_tests::client::Messages, id: &str| {
        let reply = replies.of(id).await.json();
        (
            reply["status"].clone(),
            reply["error"]["kind"].clone(),
            reply["error"]["message"].to_string(),
        )
    };
    let (status, kind, message) = error(&mut replies, "c-2").await;
    assert_eq!((status, kind), (json!("failed"), json!("crashed")));
    assert!(message.contains("exit code 5"));
    let (status, kind, _) = error(&mut replies, "c-3").await;
    assert_eq!((status, kind), (json!("failed"), json!("mine")));
    let (status, kind, message) = error(&mut replies, "c-4").await;
    assert_eq!((status, kind), (json!("failed"), json!("invalid_output")));
    assert!(message.contains("no json"), "{message}");
    let (status, ..) = error(&mut replies, "c-5").await;
    assert_eq!(status, "timed_out");
    worker
        .logged("what it wrote to stderr", |line| {
            line["kickoff_id"] == "c-1" && line["message"] == "a line for the log"
        })
        .await;
    worker.signal(Signal::SIGTERM);
    assert!(worker.exit().await.success());
    worker.processes_gone().await;
}
