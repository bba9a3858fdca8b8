//! A PostgreSQL that a test starts itself and ends by its process IDs.

use std::time::{Duration, Instant};

use tally_tests::postgres::Postgres;
use tokio_postgres::NoTls;

pub(crate) use tally_tests::postgres::PASSWORD;

/// A cluster in a temporary folder, reached over a Unix socket; ended when dropped.
pub(crate) struct Cluster(Postgres);

impl Cluster {
    /// Starts one; `None` if there is no PostgreSQL, which is a failure if nothing may be skipped.
    pub(crate) async fn start() -> Option<Self> {
        let Some(postgres) = Postgres::start().expect("PostgreSQL starts") else {
            let needed = "PostgreSQL is not installed: apt-get install postgresql";
            tally_tests::skip("tests of PostgreSQL", needed);
            return None;
        };
        let mut cluster = Self(postgres);
        cluster.up().await;
        Some(cluster)
    }

    pub(crate) fn url(&self, database: &str) -> String {
        self.0.url_of(database)
    }

    pub(crate) async fn client(
        &self,
        database: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let mut config: tokio_postgres::Config = self.url(database).parse()?;
        config.password(PASSWORD);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Starts the server, also after it was killed, and waits until it answers.
    pub(crate) async fn up(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            self.0.wait_up().expect("PostgreSQL starts");
            if self.client("postgres").await.is_ok() {
                return;
            }
            assert!(Instant::now() < end, "PostgreSQL does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// SIGKILL for the server and for every process it made.
    pub(crate) fn kill(&mut self) {
        self.0.kill();
    }

    /// Makes a database of its own.
    pub(crate) async fn create(&self, name: &str) {
        let client = self.client("postgres").await.expect("connect");
        let sql = format!("CREATE DATABASE {name}");
        client.batch_execute(&sql).await.expect("database");
    }
}
