//! Whether the section `[broker]` can be used, with what its files hold.

use secrecy::{ExposeSecret, SecretString};

use super::config::BrokerConfig;
use super::problem::Problem;
use super::{tls, uri};

impl BrokerConfig {
    /// Reads `url_file` and checks the values.
    ///
    /// # Errors
    /// The first [`Problem`].
    pub fn resolve(&mut self) -> Result<(), Problem> {
        if let Some(url) = self.url_in_file()? {
            self.url = url;
        }
        if uri::parse(self).is_err() {
            return Err(self.no_url());
        }
        self.check_tls()?;
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        if !(1..=32).contains(&self.namespace.len()) || !self.namespace.chars().all(allowed) {
            let problem = "must be 1 to 32 characters of a-z, 0-9, '.', '_' and '-'";
            return Err(Problem::new(
                "broker.namespace",
                format!("{:?}", self.namespace),
                problem,
            ));
        }
        if let Some(name) = &self.client_name {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c);
            if !(1..=32).contains(&name.len()) || !name.chars().all(allowed) {
                let problem = "must be 1 to 32 characters of a-z, 0-9, '_' and '-'";
                return Err(Problem::new("broker.client_name", format!("{name:?}"), problem));
            }
        }
        for (key, value) in [
            ("broker.heartbeat_s", u64::from(self.heartbeat_s)),
            ("broker.connect_timeout_s", self.connect_timeout_s.into()),
            ("broker.max_request_bytes", self.max_request_bytes as u64),
            ("broker.max_reply_bytes", self.max_reply_bytes as u64),
            ("broker.consumer_timeout_s", self.consumer_timeout_s),
        ] {
            if value == 0 {
                return Err(Problem::new(key, value, "must be greater than 0"));
            }
        }
        Ok(())
    }

    /// The URL is a secret, so only the place that it came from is told.
    fn no_url(&self) -> Problem {
        const FORM: &str = "it looks like amqp://USER:PASSWORD@HOST:5672/%2f";
        match &self.url_file {
            Some(file) => Problem::new(
                "broker.url_file",
                file.display(),
                format!("the file holds no AMQP URL; {FORM}"),
            ),
            None => Problem::new("broker.url", "…", format!("this is not an AMQP URL; {FORM}")),
        }
    }

    /// With the URL that `url_file` holds now: credentials are rotated while programs run. The last one where it cannot
    /// be read, as in the moment when it is replaced.
    pub(crate) fn as_now(&self) -> Self {
        let mut now = self.clone();
        let read = self.url_in_file().ok().flatten();
        if let Some(url) = read.filter(|url| !url.expose_secret().is_empty()) {
            now.url = url;
        }
        now
    }

    /// What `url_file` holds; `None` where none is named.
    fn url_in_file(&self) -> Result<Option<SecretString>, Problem> {
        let Some(file) = &self.url_file else {
            return Ok(None);
        };
        match std::fs::read_to_string(file) {
            Ok(url) => Ok(Some(SecretString::from(url.trim()))),
            Err(e) => Err(Problem::new(
                "broker.url_file",
                file.display(),
                format!("cannot be read: {e}; name a readable file"),
            )),
        }
    }

    /// Whoever names a CA believes to be on TLS; so the files are refused where nothing would use them.
    pub(crate) fn check_tls(&self) -> Result<(), Problem> {
        let files = [
            ("broker.ca_file", &self.ca_file),
            ("broker.client_cert_file", &self.client_cert_file),
            ("broker.client_key_file", &self.client_key_file),
        ];
        let Some((key, file)) = files.iter().find_map(|(key, file)| Some((*key, file.as_ref()?))) else {
            return Ok(());
        };
        let speaks = |url: &SecretString, scheme: &str| url.expose_secret().contains(scheme);
        let asks_by_tls = |url: &SecretString| speaks(url, "https://");
        if !speaks(&self.url, "amqps://") && !self.management_url.as_ref().is_some_and(asks_by_tls) {
            let problem = "nothing would use it: [broker] url is not one for TLS; write amqps:// there";
            return Err(Problem::new(key, file.display(), problem));
        }
        tls::client_config(self).map(drop)
    }
}
