//! What kickoffs wrote, over HTTP.

use std::fs;

use crewfleet_tests::gateway::GatewayProcess;
use serde_json::json;

use super::{Site, large};

#[tokio::test]
async fn a_gateway_lists_and_serves_files() {
    let site = Site::new().await;
    let worker = site.worker("writer-1", 0).await.builtin(&["sleep"]).ready().await;
    let token = site
        .cli
        .run(&["token", "create", "shop", "--all-crews"])
        .await
        .success();
    let other = site
        .cli
        .run(&["token", "create", "other", "--crew", "sleep"])
        .await
        .success();
    let gateway = GatewayProcess::ready(&site.cli).await;
    let caller = gateway.caller("writer", &token);
    let inputs = json!({"files": {"out/ü b.md": "# b\n", "c": "c"}, "large": 3_000_000});
    let id = caller.kickoff(&json!({ "inputs": inputs })).await;
    caller.becomes(&id, "SUCCESS").await;

    let (code, list) = caller.get(format!("/files/{id}")).await;
    assert_eq!(code, 200, "{list}");
    let files = list["files"].as_array().unwrap();
    let paths: Vec<_> = files.iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["c", "large.bin", "out/ü b.md"]);
    assert!(
        list["kickoff_id"] == id && list["files_until"].is_string(),
        "{list}"
    );

    let get = async |path: &str| {
        let url = format!("{}/crews/writer/files/{id}/{path}", gateway.url());
        let request = crewfleet_tests::http::client().get(url).bearer_auth(token.trim());
        request.send().await.unwrap()
    };
    let response = get("out/%C3%BC%20b.md").await;
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/markdown");
    assert_eq!(
        header("content-disposition"),
        "attachment; filename*=UTF-8''%C3%BC%20b.md"
    );
    assert_eq!(
        (header("content-length"), header("x-content-type-options")),
        ("4".into(), "nosniff".into())
    );
    assert_eq!(response.text().await.unwrap(), "# b\n");
    let response = get("large.bin").await;
    assert!(
        response.bytes().await.unwrap() == large(3_000_000),
        "another content"
    );

    for path in ["nothing", "..%2F..%2Flock", "%2Fetc%2Fpasswd", "manifest.json"] {
        assert_eq!(get(path).await.status(), 404, "{path}");
    }
    let path = format!("/files/{id}/c");
    assert_eq!(caller.get("/files/0193-none/c").await.0, 404);
    assert_eq!(gateway.caller("writer", &other).get(&path).await.0, 403);
    assert_eq!(
        gateway.caller("sleep", &other).get(&path).await.0,
        404,
        "of another crew"
    );
    assert_eq!(gateway.caller("writer", "no-token").get(&path).await.0, 401);
    let sleeper = gateway.at_the_root(&other);
    let running = sleeper.kickoff(&json!({"inputs": {"seconds": 600}})).await;
    sleeper.becomes(&running, "STARTED").await;
    let (code, answer) = sleeper.get(format!("/files/{running}")).await;
    assert_eq!(code, 400, "{answer}");

    // Without the files the list stays, and says nothing of what the worker lost; the file is gone.
    fs::remove_dir_all(site.data.path().join("files")).unwrap();
    let (code, answer) = caller.get(&path).await;
    assert_eq!(
        (code.as_u16(), &answer["error"]),
        (410, &json!("Gone")),
        "{answer}"
    );
    worker.kill();
    worker.exit().await;
    let (code, answer) = caller.get(&path).await;
    assert_eq!(code, 503, "{answer}");
    assert!(
        answer["message"].as_str().unwrap().contains("worker writer-1"),
        "{answer}"
    );
}
