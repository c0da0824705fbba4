//! What a token sees.

use super::*;

#[tokio::test]
async fn a_token_sees_its_crews_and_its_tenant_alone() {
    let site = Site::new().await;
    let token = async |arguments: &[&str]| {
        let made = [&["token", "create"], arguments].concat();
        site.cli.run(&made).await.success()
    };
    let echo = site.gateway.native(&token(&["echo", "--crew", "echo"]).await);
    let acme = site
        .gateway
        .native(&token(&["acme", "--all-crews", "--tenant", "acme"]).await);
    let reader = site
        .gateway
        .native(&token(&["reader", "--all-crews", "--scope", "read"]).await);
    let others = site
        .start(json!({"crew": "sleep", "inputs": {"seconds": 0}}))
        .await;
    let (status, own) = acme
        .post("/kickoffs", json!({"crew": "sleep", "inputs": {"seconds": 0}}))
        .await;
    assert_eq!(
        (status.as_u16(), &own["meta"]["tenant"]),
        (202, &json!("acme")),
        "{own}"
    );
    let own = own["kickoff_id"].as_str().expect("an id");
    for (caller, visible) in [(&echo, vec![]), (&acme, vec![own]), (&reader, vec![own, &others])] {
        let (status, page) = caller.get("/kickoffs").await;
        assert_eq!((status.as_u16(), ids(&page)), (200, visible.clone()), "{page:#}");
        for id in [own, &others] {
            let expected = if visible.contains(&id) { 200 } else { 404 };
            for path in ["", "/events", "/result?wait=30"] {
                let (status, answer) = caller.get(format!("/kickoffs/{id}{path}")).await;
                assert_eq!(status, expected, "{id}{path} {answer}");
            }
        }
    }
    let (status, _) = echo.get("/kickoffs?crew=sleep").await;
    assert_eq!(status, 403);
    // Nor are other crews left out in silence.
    let (status, _) = echo.get("/kickoffs?crew=sleep,fail").await;
    assert_eq!(status, 403);
    // Two tenants may have the same key.
    let umbrella = token(&["umbrella", "--all-crews", "--tenant", "umbrella"]).await;
    let umbrella = site.gateway.native(&umbrella);
    let mut keyed = Vec::new();
    for caller in [&acme, &umbrella] {
        let caller = caller.clone().with_header("Idempotency-Key", "first");
        let (status, kickoff) = caller
            .post("/kickoffs", json!({"crew": "echo", "inputs": {}}))
            .await;
        assert_eq!(status, 202, "{kickoff}");
        keyed.push(kickoff["kickoff_id"].clone());
    }
    assert_ne!(keyed[0], keyed[1]);
    let (status, problem) = reader
        .post("/kickoffs", json!({"crew": "echo", "inputs": {}}))
        .await;
    assert_eq!(status, 403, "{problem}");
    assert!(
        problem["detail"].as_str().unwrap_or_default().contains("kickoff"),
        "{problem}"
    );
    let (_, page) = acme.get("/kickoffs?meta.tenant=other").await;
    assert_eq!(ids(&page), Vec::<&str>::new());
    drop(site.namespace);
}
