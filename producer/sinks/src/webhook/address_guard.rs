//! Which addresses may be called. Whoever asks for a kickoff names where it is called, so without this it could have us
//! reach what only we can: this machine, the network around it, the metadata of the cloud.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), bits)
}

const fn v6(a: u16, b: u16, c: u16, bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), bits)
}

/// IANA's registry of special addresses, as far as they are not for everybody, and what clouds serve beside it.
const SPECIAL_V4: [Ipv4Net; 17] = [
    // This network.
    v4(0, 0, 0, 0, 8),
    // Private.
    v4(10, 0, 0, 0, 8),
    // Between a provider and its customers (CGNAT); Alibaba's metadata.
    v4(100, 64, 0, 0, 10),
    // This machine.
    v4(127, 0, 0, 0, 8),
    // Azure's own address for its machines.
    v4(168, 63, 129, 16, 32),
    // Link-local, and with it the metadata of AWS, Google and Azure.
    v4(169, 254, 0, 0, 16),
    // Private.
    v4(172, 16, 0, 0, 12),
    // IETF protocols; Oracle's metadata.
    v4(192, 0, 0, 0, 24),
    // Documentation.
    v4(192, 0, 2, 0, 24),
    // Relays of 6to4, which lead anywhere.
    v4(192, 88, 99, 0, 24),
    // Private.
    v4(192, 168, 0, 0, 16),
    // Benchmarks.
    v4(198, 18, 0, 0, 15),
    // Documentation.
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    // Multicast.
    v4(224, 0, 0, 0, 4),
    // Reserved, with the broadcast address.
    v4(240, 0, 0, 0, 4),
    v4(255, 255, 255, 255, 32),
];

/// The part of IPv6 that is for everybody. What is outside of it is refused: loopback, ULA, link-local, multicast, NAT64,
/// addresses of IPv4, what is discarded.
const GLOBAL_V6: Ipv6Net = v6(0x2000, 0, 0, 3);

/// What is not for everybody within it.
const SPECIAL_V6: [Ipv6Net; 4] = [
    // IETF protocols, and with them Teredo, which holds an address of IPv4, benchmarks and ORCHID.
    v6(0x2001, 0, 0, 23),
    // Documentation.
    v6(0x2001, 0x0db8, 0, 32),
    // 6to4, which holds an address of IPv4.
    v6(0x2002, 0, 0, 16),
    // Documentation.
    v6(0x3fff, 0, 0, 20),
];

/// What may be called although it is not for everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Exception {
    /// These addresses.
    Network(IpNet),
    /// This host, by its name or address as the URL has it, and this port alone.
    Host {
        /// In lower case, without a dot at its end.
        host: String,
        /// The port.
        port: u16,
    },
}

impl FromStr for Exception {
    type Err = &'static str;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "is neither a network nor HOST:PORT; give one as in 10.0.0.0/8, 10.1.2.3, hooks.internal:8080 or \
                            [fd00::1]:8080";
        if let Ok(network) = network(value) {
            return Ok(Self::Network(network));
        }
        let (host, port) = value.rsplit_once(':').ok_or(FORM)?;
        let port = port.parse().ok().filter(|port| *port > 0).ok_or(FORM)?;
        // As the URL's parser has it, so that both are compared in one form.
        let host = Host::parse(host).map_err(|_| FORM)?;
        Ok(Self::Host {
            host: plain(&host),
            port,
        })
    }
}

/// Networks that are not called, as in `203.0.114.0/24` or `2001:4000::7`.
///
/// # Errors
/// What it is instead, and what to give.
pub(crate) fn network(value: &str) -> Result<IpNet, &'static str> {
    let network = value.parse::<IpNet>().map(|network| network.trunc());
    let address = || value.parse::<IpAddr>().map(IpNet::from);
    network
        .or_else(|_| address())
        .map(canonical)
        .map_err(|_| "is no network; give one as in 9.20.0.0/16, 9.20.1.2 or 2a01:20::/32")
}

/// A network of IPv4 addresses in IPv6's form is that one, as an address is.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(mapped) = network else {
        return network;
    };
    let bits = mapped.prefix_len().checked_sub(96);
    let of_v4 = mapped.addr().to_ipv4_mapped().zip(bits);
    of_v4
        .and_then(|(address, bits)| Ipv4Net::new(address, bits).ok())
        .map_or(network, IpNet::V4)
}

/// Decides which addresses may be called.
#[derive(Debug, Clone, Default)]
pub(crate) struct AddressGuard {
    exceptions: Vec<Exception>,
    /// What may not be called although it is for everybody.
    denied: Vec<IpNet>,
}

/// An address that may not be called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) struct Refused {
    /// Who has it.
    pub(crate) host: String,
    /// It; `None` where the host has none.
    pub(crate) address: Option<IpAddr>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, address } = self;
        match address {
            Some(address) if address.to_string() == *host => write!(f, "the address {address}")?,
            Some(address) => write!(f, "the host {host} has the address {address}, which")?,
            None => return write!(f, "the host {host} has no address"),
        }
        f.write_str(
            " is not called: it is private, of this machine, or otherwise not for everybody, or [webhooks] deny has it; \
             [webhooks] allow names exceptions",
        )
    }
}

impl AddressGuard {
    /// With these exceptions.
    pub(crate) fn new(exceptions: Vec<Exception>) -> Self {
        Self {
            exceptions,
            denied: Vec::new(),
        }
    }

    /// Without these, but for what is an exception.
    pub(crate) fn without(self, denied: Vec<IpNet>) -> Self {
        Self { denied, ..self }
    }

    /// Whether this host and port are an exception, whatever addresses the host has.
    pub(crate) fn trusts(&self, url: &Url) -> bool {
        let Some((url_host, url_port)) = url.host().zip(url.port_or_known_default()) else {
            return false;
        };
        let url_host = plain(&url_host);
        self.exceptions.iter().any(|exception| match exception {
            Exception::Host { host, port } => *host == url_host && *port == url_port,
            Exception::Network(_) => false,
        })
    }

    /// Whether this address may be called.
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        // An IPv4 address in IPv6's form is that one.
        let address = address.to_canonical();
        let is_exception = self.exceptions.iter().any(|exception| match exception {
            Exception::Network(network) => network.contains(&address),
            Exception::Host { .. } => false,
        });
        let is_denied = self.denied.iter().any(|network| network.contains(&address));
        is_exception || (is_for_everybody(address) && !is_denied)
    }

    /// Whether the host of a URL may be called, as far as the URL says it: a name is looked at where it is resolved.
    ///
    /// # Errors
    /// [`Refused`] for an address that may not be called. The parser of URLs has read all forms of one: `0x7f.1` is
    /// 127.0.0.1.
    pub(crate) fn check_literal(&self, url: &Url) -> Result<(), Refused> {
        let address = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::from(address),
            Some(Host::Ipv6(address)) => IpAddr::from(address),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        match self.allows(address) {
            true => Ok(()),
            false => Err(Refused {
                host: address.to_string(),
                address: Some(address),
            }),
        }
    }
}

fn is_for_everybody(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address) && !SPECIAL_V6.iter().any(|network| network.contains(&address))
        }
    }
}

/// A host in one form.
fn plain(host: &Host<impl AsRef<str>>) -> String {
    match host {
        Host::Domain(name) => name.as_ref().trim_end_matches('.').to_ascii_lowercase(),
        Host::Ipv4(address) => address.to_string(),
        Host::Ipv6(address) => address.to_canonical().to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn guard(exceptions: &[&str]) -> AddressGuard {
        AddressGuard::new(exceptions.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn what_is_not_for_everybody_is_refused() {
        let refused = "0.0.0.0 0.1.2.3 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.9.9.9 169.254.169.254 172.16.0.1 \
                       172.31.255.255 192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.19.255.255 198.51.100.7 \
                       203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 168.63.129.16 \
                       :: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b:1::1 100::1 \
                       2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1 2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1::1 \
                       3fff::1 5f00::1 fc00::1 fd00:ec2::254 fe80::1 fec0::1 ff02::1 4000::1";
        for address in refused.split_whitespace() {
            assert!(!guard(&[]).allows(address.parse().unwrap()), "{address}");
        }
        let allowed = "1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 172.15.255.255 172.32.0.0 192.0.1.1 \
                       193.0.0.1 223.255.255.255 168.63.129.17 2606:4700:4700::1111 2a00:1450:4001:81b::200e \
                       ::ffff:1.1.1.1 2001:200::1 2003::1";
        for address in allowed.split_whitespace() {
            assert!(guard(&[]).allows(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_url_s_address_is_refused_in_every_form() {
        for url in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://0x7f.1/",
            "http://0x7f000001/",
            "http://2130706433/",
            "http://0177.0.0.1/",
            "http://127.0.0.1./",
            "http://%31%32%37.0.0.1/",
            "http://１２７.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[0:0:0:0:0:0:0:1]/",
            "http://169.254.169.254/latest/meta-data/",
            "http://0/",
        ] {
            let parsed = Url::parse(url).unwrap();
            assert!(guard(&[]).check_literal(&parsed).is_err(), "{url}");
        }
        let public = Url::parse("https://1.1.1.1/hook").unwrap();
        assert_eq!(guard(&[]).check_literal(&public), Ok(()));
    }

    #[test]
    fn networks_of_our_own_are_refused_where_they_are_named_but_for_exceptions() {
        let own = ["9.20.0.0/16", "2a01:20::/32", "9.30.0.7"].map(|text| network(text).unwrap());
        let some = guard(&["9.20.1.0/24"]).without(own.to_vec());
        let allows = |address: &str| some.allows(address.parse().unwrap());
        assert!(
            !allows("9.20.3.4") && !allows("::ffff:9.20.3.4") && !allows("2a01:20::1") && !allows("9.30.0.7")
        );
        assert!(allows("9.20.1.9") && allows("9.30.0.8") && allows("2a01:21::1"));
        for (mapped, plain) in [
            ("::ffff:9.20.0.0/112", "9.20.0.0/16"),
            ("::ffff:9.30.0.7", "9.30.0.7"),
        ] {
            assert_eq!(network(mapped).unwrap(), network(plain).unwrap());
        }
        assert!(network("hooks.internal:80").is_err() && network("9.20.0.0/40").is_err());
    }

    #[test]
    fn exceptions_are_networks_or_one_port_of_a_host() {
        let some = guard(&[
            "10.2.0.0/16",
            "127.0.0.1:8080",
            "hooks.internal:443",
            "[fd00::1]:80",
            "fd01::/16",
        ]);
        let allows = |address: &str| some.allows(address.parse().unwrap());
        assert!(allows("10.2.3.4") && allows("::ffff:10.2.3.4") && allows("fd01::7"));
        // A port is no address: whoever has a name for this machine does not reach its other ports.
        assert!(!allows("10.3.0.1") && !allows("127.0.0.1") && !allows("fd00::1"));
        let trusts = |url: &str| some.trusts(&Url::parse(url).unwrap());
        for url in [
            "http://127.0.0.1:8080/a",
            "http://127.1:8080/",
            "https://hooks.internal/x",
            "https://HOOKS.internal./x",
            "http://[fd00::1]/",
        ] {
            assert!(trusts(url), "{url}");
        }
        for url in [
            "http://127.0.0.1:8081/",
            "http://hooks.internal/",
            "https://a.hooks.internal/",
            "http://[fd00::1]:81/",
        ] {
            assert!(!trusts(url), "{url}");
        }
        for text in [
            "",
            "10.0.0.0/40",
            "host",
            "host:",
            "host:0",
            "host:70000",
            "a b:80",
            "/8",
        ] {
            assert!(text.parse::<Exception>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_form_of_an_address_gets_past_its_network(bits: u32, bits6: u128) {
            let address = Ipv4Addr::from(bits);
            let is_special = SPECIAL_V4.iter().any(|network| network.contains(&address));
            let all = guard(&[]);
            prop_assert_eq!(all.allows(address.into()), !is_special);
            prop_assert_eq!(all.allows(address.to_ipv6_mapped().into()), !is_special);
            let [a, b, c, d] = address.octets();
            let url = Url::parse(&format!("http://{bits:#x}:1/")).unwrap();
            prop_assert_eq!(all.check_literal(&url).is_err(), is_special);
            // 6to4 and NAT64 hold it, too.
            let held = [0x2002_u16, u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]), 0, 0, 0, 0, 0];
            prop_assert!(!all.allows(Ipv6Addr::from(held).into()));
            let address = Ipv6Addr::from(bits6);
            prop_assert!(!all.allows(address.into()) || address.segments()[0] & 0xe000 == 0x2000 || address.to_ipv4_mapped().is_some());
        }
    }
}
