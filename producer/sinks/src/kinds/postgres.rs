//! Tables of PostgreSQL. A message counts as handed on when its row is committed; one that comes again changes nothing.
//!
//! | file | what it holds |
//! |---|---|
//! | this one | batches, and what an error says of them |
//! | [`table`] | the tables: what is inserted, and whether they are as they must be |
//! | [`json`] | JSON as PostgreSQL takes it |
//! | [`said`] | its errors, for people |

mod json;
mod said;
mod table;

use std::sync::Arc;
use std::time::Duration;

use crewfleet_amqp::system_roots::system_roots;
use crewfleet_amqp::{Problem, tls};
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use futures_util::future::BoxFuture;
use rustls::ClientConfig;
use secrecy::ExposeSecret;
use tokio::time::timeout;
use tokio_postgres::Config;
use tokio_postgres_rustls::MakeRustlsConnect;

use self::said::told;
use self::table::{Row, Table};
use super::{Batch, Handed};
use crate::config::spec::PostgresSpec;
use crate::item::Item;
use crate::verdict::Verdict;

/// How long a connection, and a batch, may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The first two characters of the states (SQLSTATE) that say that the rows are at fault: data, constraints, checks of views,
/// limits of the program (an index's entry, nesting), and what triggers raise.
const OF_ROWS: [&str; 5] = ["22", "23", "44", "54", "P0"];

/// Inserts into tables of PostgreSQL.
pub(crate) struct PostgresTarget {
    pool: Pool,
    replies: Table,
    events: Option<Table>,
}

/// Why rows are not in their table.
enum Failure {
    /// One of them cannot be.
    OfRows(String),
    /// None can at present.
    Away(String),
}

impl PostgresTarget {
    /// Connects to nothing yet. `name` is the sink's; with `has_events` it is for events, too.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub(crate) fn new(name: &str, spec: &PostgresSpec, has_events: bool) -> Result<Self, Problem> {
        let key = |key: &str| format!("sinks.{name}.{key}");
        // The parser's words may repeat the password.
        let form = "this is no PostgreSQL URL; it looks like postgresql://USER:PASSWORD@HOST:5432/DATABASE?sslmode=require";
        let mut config: Config = spec
            .url
            .expose_secret()
            .parse()
            .map_err(|_| Problem::new(key("url"), "…", form))?;
        config.connect_timeout(LIMIT);
        if config.get_application_name().is_none() {
            config.application_name("crewfleet-sinks");
        }
        let roots = match &spec.ca_file {
            Some(file) => Arc::new(tls::roots_in(&key("ca_file"), file)?),
            None => system_roots(),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| Problem::new(key("url"), "…", format!("TLS cannot be used: {error}")))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let recycling_method = RecyclingMethod::Fast;
        let manager = Manager::from_config(
            config,
            MakeRustlsConnect::new(tls),
            ManagerConfig { recycling_method },
        );
        let pool = Pool::builder(manager)
            .max_size(2)
            .runtime(Runtime::Tokio1)
            .create_timeout(Some(LIMIT))
            .wait_timeout(Some(LIMIT))
            .build()
            .map_err(|error| Problem::new(key("url"), "…", error.to_string()))?;
        Ok(Self {
            pool,
            replies: Table::replies(&spec.table),
            events: has_events.then(|| Table::events(&spec.events_table)),
        })
    }

    async fn client(&self) -> Result<Object, String> {
        self.pool.get().await.map_err(|error| match error {
            deadpool_postgres::PoolError::Backend(error) => told(&error),
            other => other.to_string(),
        })
    }

    async fn check(&self) -> Result<(), String> {
        let client = self.client().await?;
        let checking = timeout(LIMIT, async {
            for table in [Some(&self.replies), self.events.as_ref()].into_iter().flatten() {
                table.check(&client).await?;
            }
            Ok(())
        });
        let checked = checking.await;
        checked.unwrap_or_else(|_| {
            drop(Object::take(client));
            Err(format!("no answer within {} s", LIMIT.as_secs()))
        })
    }

    async fn insert(&self, table: &Table, rows: &[Row]) -> Result<(), Failure> {
        let client = self.client().await.map_err(Failure::Away)?;
        match timeout(LIMIT, table.insert(&client, rows)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => match error.code().map(|state| &state.code()[..2]) {
                Some(class) if OF_ROWS.contains(&class) => Err(Failure::OfRows(told(&error))),
                _ => {
                    // Another connection may lead to another server: this one may be a standby by now.
                    drop(Object::take(client));
                    Err(Failure::Away(told(&error)))
                }
            },
            Err(_) => {
                // It may hang for ever, and is of no use to anybody.
                drop(Object::take(client));
                Err(Failure::Away(format!("no answer within {} s", LIMIT.as_secs())))
            }
        }
    }

    /// Inserts rows of one table; where one of them cannot be, each by itself.
    async fn insert_all(
        &self,
        table: &Table,
        rows: Vec<(usize, Row)>,
        verdicts: &mut [Verdict],
    ) -> Result<(), String> {
        if rows.is_empty() {
            return Ok(());
        }
        let (places, rows): (Vec<usize>, Vec<Row>) = rows.into_iter().unzip();
        match self.insert(table, &rows).await {
            Ok(()) => return Ok(()),
            Err(Failure::Away(why)) => return Err(why),
            Err(Failure::OfRows(_)) => {}
        }
        for (place, row) in places.into_iter().zip(&rows) {
            match self.insert(table, std::slice::from_ref(row)).await {
                Ok(()) => {}
                Err(Failure::Away(why)) => return Err(why),
                Err(Failure::OfRows(why)) => verdicts[place] = Verdict::never(why),
            }
        }
        Ok(())
    }

    async fn deliver_all(&self, handed: &[Handed]) -> Result<Vec<Verdict>, String> {
        let mut verdicts = vec![Verdict::Delivered; handed.len()];
        let (mut replies, mut events) = (Vec::new(), Vec::new());
        for (place, Handed { item, body }) in handed.iter().enumerate() {
            let rows = match item {
                Item::Reply(_) => &mut replies,
                Item::Event(_) if self.events.is_some() => &mut events,
                _ => {
                    verdicts[place] = Verdict::never("there is no table for it");
                    continue;
                }
            };
            match Row::new(item.id(), body) {
                Ok(row) => rows.push((place, row)),
                Err(why) => verdicts[place] = Verdict::never(why),
            }
        }
        self.insert_all(&self.replies, replies, &mut verdicts).await?;
        if let Some(table) = &self.events {
            self.insert_all(table, events, &mut verdicts).await?;
        }
        Ok(verdicts)
    }
}

impl Batch for PostgresTarget {
    fn prepare(&mut self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(self.check())
    }

    fn deliver<'a>(&'a mut self, handed: &'a [Handed]) -> BoxFuture<'a, Result<Vec<Verdict>, String>> {
        Box::pin(self.deliver_all(handed))
    }
}
