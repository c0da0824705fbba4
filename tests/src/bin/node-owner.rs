//! A process that owns a RabbitMQ node and never lets go of it: tests kill it to see that the node goes too.
//! Prints the folder of the node when that is ready, then waits for ever.

use crewfleet_shared::node::{Node, NodeOptions};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut node = Node::start(NodeOptions::temporary()?).await?;
    println!("{}", node.dir().display());
    anyhow::bail!("the node ended with {}", node.exited().await)
}
