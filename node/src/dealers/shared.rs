//! The list that the gateways of a member share, in the PostgreSQL of their scan index: one sealed row.
//!
//! ```text
//! tally_dealer_meta   version of these tables; a check of the member's key
//! tally_dealer_list   the list, sealed; empty at first
//! ```

use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tally_contracts::codec::Canonical;
use tokio::time::timeout;
use tokio_postgres::{Client, Config, NoTls};

use super::{DealerError, Entry, List};
use crate::database::{Schema, told};
use crate::scans::SharedIndex;
use crate::sealed::{RowSealer, StorageKey};

const SCHEMA: Schema = Schema {
    meta: "tally_dealer_meta",
    tables: "\
        CREATE TABLE tally_dealer_meta (id int PRIMARY KEY CHECK (id = 1), version int NOT NULL, key_check bytea NOT NULL); \
        CREATE TABLE tally_dealer_list (id int PRIMARY KEY CHECK (id = 1), data bytea NOT NULL); \
        INSERT INTO tally_dealer_list VALUES (1, '')",
    version: 1,
    lock: 0x7461_6c6c_7900_0003,
};
/// The place that the row is sealed to.
const PLACE: &[u8] = b"dealers";
/// How long the database may take for one step.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a list is taken as new: a key that another gateway was told to refuse is taken for so long, and guesses of keys cost the database
/// one look in this time, however many they are.
const FRESH: Duration = Duration::from_secs(1);
const SESSION: &str =
    "SET synchronous_commit = on; SET statement_timeout = '4s'; SET lock_timeout = '3s'";

type Read = Result<Arc<Vec<Entry>>, String>;

pub(super) struct SharedList {
    config: Config,
    rows: RowSealer,
    key_check: Vec<u8>,
    session: tokio::sync::Mutex<Option<Client>>,
    /// What was read last, or why nothing was.
    read: Mutex<Option<(Instant, Read)>>,
}

fn away(reason: impl Into<String>) -> DealerError {
    DealerError::Away {
        reason: reason.into(),
    }
}

/// Does one step before the deadline.
async fn step<T>(
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, DealerError> {
    timeout(DEADLINE, work)
        .await
        .map_err(|_| away("no answer before the deadline"))?
        .map_err(|e| away(told(&e)))
}

impl SharedList {
    pub(super) fn new(index: &SharedIndex, key: &StorageKey) -> Result<Self, DealerError> {
        // The reason might repeat the URL.
        let mut config =
            Config::from_str(&index.url).map_err(|_| away("its URL is none of PostgreSQL"))?;
        if let Some(password) = &index.password {
            config.password(password.as_bytes());
        }
        config.application_name("tally").connect_timeout(DEADLINE);
        Ok(Self {
            config,
            rows: RowSealer::new(&key.derive("rows")),
            key_check: key.derive("check").mac(&[]).to_vec(),
            session: tokio::sync::Mutex::new(None),
            read: Mutex::new(None),
        })
    }

    async fn connect(&self) -> Result<Client, DealerError> {
        let (client, connection) = step(self.config.connect(NoTls)).await?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(reason = told(&error), "a connection to the dealers ended");
            }
        });
        step(client.batch_execute(SESSION)).await?;
        let prepared = timeout(DEADLINE, SCHEMA.prepare(&client, &self.key_check)).await;
        match prepared.map_err(|_| away("no answer before the deadline"))? {
            Ok(true) => Ok(client),
            Ok(false) => Err(away(
                "it was made under another key: scans.index_key_file must be the same at every gateway",
            )),
            Err(reason) => Err(away(reason)),
        }
    }

    fn open(&self, sealed: &[u8]) -> Result<Vec<Entry>, DealerError> {
        if sealed.is_empty() {
            return Ok(Vec::new());
        }
        let plain = self.rows.open(PLACE, sealed).ok_or_else(|| {
            away("the list does not open: it was changed, or sealed under another key")
        })?;
        Ok(List::from_bytes(&plain)?.0)
    }

    fn remember(&self, found: Read) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        *read = Some((Instant::now(), found));
    }

    /// What was found less than a second ago.
    fn fresh(&self) -> Option<Result<Arc<Vec<Entry>>, DealerError>> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, found) = read.as_ref()?;
        (at.elapsed() < FRESH).then(|| found.clone().map_err(away))
    }

    /// The list, at most a second old. While the database does not answer it is asked once a second, whoever else wants to know.
    pub(super) async fn entries(&self) -> Result<Arc<Vec<Entry>>, DealerError> {
        if let Some(found) = self.fresh() {
            return found;
        }
        let mut session = self.session.lock().await;
        // Whoever had the session before may have asked just now.
        if let Some(found) = self.fresh() {
            return found;
        }
        let found = self.look(&mut session).await.map(Arc::new);
        match &found {
            Ok(entries) => self.remember(Ok(Arc::clone(entries))),
            Err(error) => {
                *session = None;
                self.remember(Err(match error {
                    DealerError::Away { reason } => reason.clone(),
                    other => other.to_string(),
                }));
            }
        }
        found
    }

    /// Reads the list in the session, or in a new one: the database may have been started again since.
    async fn look(&self, session: &mut Option<Client>) -> Result<Vec<Entry>, DealerError> {
        let sql = "SELECT data FROM tally_dealer_list WHERE id = 1";
        let mut row = None;
        if let Some(client) = session.as_ref().filter(|client| !client.is_closed()) {
            row = step(client.query_one(sql, &[])).await.ok();
        }
        let row = match row {
            Some(row) => row,
            None => {
                let client = session.insert(self.connect().await?);
                step(client.query_one(sql, &[])).await?
            }
        };
        self.open(row.try_get(0).map_err(|e| away(told(&e)))?)
    }

    /// Replaces the list while no other gateway can.
    pub(super) async fn change(
        &self,
        change: impl FnOnce(&mut Vec<Entry>) -> Result<(), DealerError>,
    ) -> Result<(), DealerError> {
        // A session of its own, so that one given up half way holds nothing.
        let mut client = self.connect().await?;
        let transaction = step(client.transaction()).await?;
        let sql = "SELECT data FROM tally_dealer_list WHERE id = 1 FOR UPDATE";
        let row = step(transaction.query_one(sql, &[])).await?;
        let sealed: &[u8] = row.try_get(0).map_err(|e| away(told(&e)))?;
        let mut list = List(self.open(sealed)?);
        change(&mut list.0)?;
        let sealed = self
            .rows
            .seal(PLACE, &list.to_bytes())
            .ok_or_else(|| away("a list that cannot be sealed"))?;
        let sql = "UPDATE tally_dealer_list SET data = $1 WHERE id = 1";
        step(transaction.execute(sql, &[&sealed])).await?;
        step(transaction.commit()).await?;
        self.remember(Ok(Arc::new(list.0)));
        Ok(())
    }
}
