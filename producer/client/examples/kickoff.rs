//! Kicks off ten crews at once from a program, and prints their replies as they come.
//!
//! ```sh
//! CREWFLEET__BROKER__URL=amqp://… cargo run -p crewfleet --example kickoff -- echo
//! ```

use std::error::Error;

use crewfleet::{BrokerConfig, KickoffClient};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let crew = std::env::args().nth(1).unwrap_or_else(|| "echo".into());
    let mut config = BrokerConfig::default();
    if let Ok(url) = std::env::var("CREWFLEET__BROKER__URL") {
        config.url = url.into();
    }
    let client = KickoffClient::connect(&config, "example").await?;

    let mut kickoffs: FuturesUnordered<_> = (1..=10)
        .map(|number| {
            let inputs = serde_json::json!({"number": number});
            let kickoff = client.kickoff(&crew, &inputs).meta(&number).timeout_s(60.0);
            async { kickoff.await?.reply().await }
        })
        .collect();
    while let Some(reply) = kickoffs.next().await {
        let reply = reply?;
        println!(
            "{} {}: {}",
            reply.kickoff_id,
            reply.status,
            reply.result.map(|r| r.raw).unwrap_or_default()
        );
    }

    drop(kickoffs);
    client.close().await;
    Ok(())
}
