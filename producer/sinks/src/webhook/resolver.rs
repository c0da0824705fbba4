//! Names become addresses once a connection, and that connection goes to no other: a name whose address changes between
//! a check and a call would lead anywhere.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address_guard::{AddressGuard, Refused};

/// Who knows the addresses of a name.
pub(crate) trait Lookup: Send + Sync + 'static {
    /// Its addresses.
    fn look_up(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>>;
}

/// The system: its hosts file, its name servers.
pub(crate) struct System;

impl Lookup for System {
    fn look_up(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Gives those addresses of a name that may be called.
pub(crate) struct GuardedResolver {
    pub(crate) lookup: Arc<dyn Lookup>,
    pub(crate) guard: Arc<AddressGuard>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (guard, name) = (Arc::clone(&self.guard), name.as_str().to_owned());
        let looking = self.lookup.look_up(name.clone());
        Box::pin(async move {
            let found = looking.await?;
            // A name with addresses of both kinds is called at those that are for everybody.
            let allowed: Vec<_> = found
                .iter()
                .copied()
                .filter(|address| guard.allows(*address))
                .collect();
            if allowed.is_empty() {
                return Err(Refused {
                    host: name,
                    address: found.first().copied(),
                }
                .into());
            }
            // The port is the URL's.
            Ok(Box::new(allowed.into_iter().map(|address| SocketAddr::new(address, 0))) as Addrs)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    /// Knows one answer.
    pub(crate) struct Always(pub(crate) Vec<IpAddr>);

    impl Lookup for Always {
        fn look_up(&self, _name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            let found = self.0.clone();
            Box::pin(async { Ok(found) })
        }
    }

    async fn resolved(addresses: &[&str]) -> Result<Vec<IpAddr>, String> {
        let found = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let resolver = GuardedResolver {
            lookup: Arc::new(Always(found)),
            guard: Arc::default(),
        };
        let found = resolver.resolve("hooks.example".parse().unwrap()).await;
        found
            .map(|found| found.map(|address| address.ip()).collect())
            .map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn only_addresses_for_everybody_are_given() {
        let mixed = ["10.0.0.1", "1.1.1.1", "fe80::1", "2606:4700:4700::1111"];
        let expected: Vec<IpAddr> = vec![mixed[1].parse().unwrap(), mixed[3].parse().unwrap()];
        assert_eq!(resolved(&mixed).await, Ok(expected));
        let error = resolved(&["169.254.169.254", "::1"]).await.unwrap_err();
        assert!(
            error.contains("hooks.example")
                && error.contains("169.254.169.254")
                && error.contains("[webhooks] allow"),
            "{error}"
        );
        assert!(resolved(&[]).await.unwrap_err().contains("has no address"));
    }
}
