//! What a worker says of itself to its host: `/readyz` and `/metrics`, systemd, the log.

use std::net::SocketAddr;
use std::sync::Arc;

use crewfleet_service::metrics::render;
use crewfleet_service::{admin, systemd};
use futures_util::future::select_all;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::state::WorkerState;

/// Answers on the admin endpoint.
pub(crate) fn serve_admin(
    admin: admin::Listening,
    worker: &Arc<WorkerState>,
    registry: Registry,
) -> admin::Serving {
    let (shown, asked) = (Arc::clone(worker), Arc::clone(worker));
    let metrics: admin::Metrics = Arc::new(move || {
        shown.show_gauges();
        render(&registry)
    });
    let readiness: admin::Readiness = Arc::new(move || asked.ready());
    let serving = admin.serve(metrics, readiness, &CancellationToken::new());
    info!(admin_addr = %serving.address(), "admin endpoint listens");
    serving
}

/// Says once, in the log and to systemd, that deliveries can arrive.
pub(crate) async fn announce_ready(worker: Arc<WorkerState>, admin_addr: SocketAddr) {
    let draining = &worker.lifecycle.draining;
    let mut announced = false;
    while !draining.is_cancelled() {
        // Made before the look, so that nothing is missed in between.
        let of_crews: Vec<_> = worker.crews.iter().map(|crew| Box::pin(crew.changes())).collect();
        let link = worker.broker.link();
        match worker.ready() {
            Ok(()) => {
                info!(%admin_addr, worker = worker.id, "ready");
                systemd::ready();
                return;
            }
            Err(trouble) if !announced && worker.has_started() => {
                match worker.serves_any() {
                    true => warn!(%admin_addr, worker = worker.id, trouble, "ready, but for some crews"),
                    false => warn!(%admin_addr, worker = worker.id, trouble, "no crew can be served yet"),
                }
                // systemd need not start it again: another start would find the same.
                systemd::ready();
                announced = true;
            }
            Err(_) => {}
        }
        let of_link = async {
            match link {
                None => drop(worker.broker.connected().await),
                Some(link) if link.is_blocked() => tokio::select! {
                    () = link.becomes_blocked(false) => {}
                    () = link.ended() => {}
                },
                Some(link) => link.ended().await,
            }
        };
        tokio::select! {
            _ = select_all(of_crews) => {}
            () = of_link => {}
            () = draining.cancelled() => {}
        }
    }
}
