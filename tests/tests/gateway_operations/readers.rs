//! Kickoffs that end with their readers, where the gateway of these is killed.

use nix::sys::signal::Signal;

use super::*;

#[tokio::test]
async fn another_gateway_cancels_what_the_readers_of_a_killed_one_left() {
    let place = Place::new().await;
    let _worker = place.worker().await.builtin(&["sleep"]).ready().await;
    let token = place.token("shop", &["--all-crews"]).await;
    let killed = GatewayProcess::ready(&place.cli).await;
    let other = GatewayProcess::ready(&place.cli).await;
    let (here, there) = (killed.native(&token), other.native(&token));
    let inputs = json!({"seconds": 600});
    let (left, read) = (
        started(&here, "sleep", inputs.clone()).await,
        started(&here, "sleep", inputs).await,
    );
    let path = |id: &str| format!("/kickoffs/{id}/events?on_disconnect=cancel&grace_s=1");
    let mut reader = here.follow(path(&left)).await;
    reader.until("kickoff_started").await;
    let mut staying = there.follow(path(&read)).await;
    staying.until("kickoff_started").await;
    killed.process().signal(Signal::SIGKILL);
    // Nobody has told that the reader is gone: what its gateway told of it holds for 20 s.
    becomes(&there, &left, "cancelled").await;
    // The other one is still read, and has been for longer than what is told holds.
    let (_, kickoff) = there.get(format!("/kickoffs/{read}")).await;
    assert_eq!(kickoff["status"], "running", "{kickoff}");
    drop(staying);
    becomes(&there, &read, "cancelled").await;
}
