//! A process that owns a RabbitMQ node and never lets go of it: tests kill it to see that the node goes too, and those in
//! Python use its broker. Prints the folder and the URL of the node when that is ready, then waits for ever. A line `restart`
//! has it stop the node and start it again, and print `restarted`.

use crewfleet_node::{Node, NodeOptions};
use tokio::task::spawn_blocking;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut node = Node::start(NodeOptions::temporary()?).await?;
    println!("{}\n{}", node.dir().display(), node.url());
    while let Some(command) = spawn_blocking(|| std::io::stdin().lines().next()).await? {
        let command = command?;
        anyhow::ensure!(
            command == "restart",
            "{command:?} is no command: there is `restart`"
        );
        node.stop().await?;
        node.start_again().await?;
        println!("restarted");
    }
    anyhow::bail!("the node ended with {}", node.exited().await)
}
