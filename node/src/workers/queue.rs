//! The queue of buckets in the member's PostgreSQL.
//!
//! ```text
//! tally_psi_meta     version of these tables; a check of the worker key
//! tally_psi_buckets  list, bucket; job: what a worker has to know, sealed; attempt: how often it was taken; who has it, until when
//! ```
//! A row is there while its bucket is to be done. It is taken by `FOR UPDATE SKIP LOCKED`, so that workers never wait for one another,
//! under a lease: a worker that dies lets go of it when the lease ends, and the next gets a higher attempt number. The numbers tell the
//! node which of two workers on one bucket is the newer.

use std::str::FromStr as _;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row};
use zeroize::Zeroizing;

use super::{Database, WorkersError};
use crate::database::{Schema, told};
use crate::sealed::RowSealer;

const SCHEMA: Schema = Schema {
    meta: "tally_psi_meta",
    tables: TABLES,
    version: 1,
    lock: 0x7461_6c6c_7900_0002,
};
/// How long the database may take to connect, and for one step.
const DEADLINE: Duration = Duration::from_secs(5);

const SESSION: &str = "SET statement_timeout = '4s'; SET lock_timeout = '3s'; SET idle_in_transaction_session_timeout = '5s'";

const TABLES: &str = "\
    CREATE TABLE tally_psi_meta (id int PRIMARY KEY CHECK (id = 1), version int NOT NULL, key_check bytea NOT NULL); \
    CREATE TABLE tally_psi_buckets (list bytea NOT NULL, bucket int NOT NULL, job bytea NOT NULL, \
        queued timestamptz NOT NULL DEFAULT now(), attempt int NOT NULL DEFAULT 0, worker text, lease_until timestamptz, \
        PRIMARY KEY (list, bucket))";

const TAKE: &str = "\
    UPDATE tally_psi_buckets AS b SET attempt = b.attempt + 1, worker = $1, lease_until = now() + $2::float8 * interval '1 second' \
    FROM (SELECT list, bucket FROM tally_psi_buckets WHERE lease_until IS NULL OR lease_until < now() \
          ORDER BY queued, bucket LIMIT 1 FOR UPDATE SKIP LOCKED) AS free \
    WHERE b.list = free.list AND b.bucket = free.bucket RETURNING b.list, b.bucket, b.attempt, b.job";

/// The queue. Clones of what it holds are sessions of one database; it connects when it is asked, and again after a failure.
pub struct Queue {
    config: Config,
    rows: RowSealer,
    key_check: Vec<u8>,
    client: Mutex<Option<Client>>,
}

/// A worker's hold on a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Names the list, at this member alone.
    pub list: [u8; 16],
    /// The bucket.
    pub bucket: u32,
    /// How often it was taken, with this time.
    pub attempt: u32,
}

/// A bucket that was taken.
pub struct Taken {
    /// The hold on it.
    pub lease: Lease,
    /// What was put there for a worker; secret.
    pub job: Zeroizing<Vec<u8>>,
}

fn failed(reason: impl Into<String>) -> WorkersError {
    WorkersError::Database {
        reason: reason.into(),
    }
}

fn number(bucket: u32) -> Result<i32, WorkersError> {
    i32::try_from(bucket).map_err(|_| failed("a bucket number over its column"))
}

/// Where a job is sealed for.
fn place(list: &[u8], bucket: i32) -> Vec<u8> {
    [b"job\0", list, &bucket.to_be_bytes()].concat()
}

impl Queue {
    /// Nothing is connected yet.
    ///
    /// # Errors
    /// [`WorkersError::Database`] for a URL that is none of PostgreSQL.
    pub fn new(database: &Database) -> Result<Self, WorkersError> {
        // The reason might repeat the URL.
        let mut config =
            Config::from_str(&database.url).map_err(|_| failed("its URL is none of PostgreSQL"))?;
        if let Some(password) = &database.password {
            config.password(password.as_bytes());
        }
        config.application_name("tally").connect_timeout(DEADLINE);
        let key = database.key.derive("tally/worker-queue/v1");
        Ok(Self {
            config,
            rows: RowSealer::new(&key.derive("rows")),
            key_check: key.derive("check").mac(&[]).to_vec(),
            client: Mutex::new(None),
        })
    }

    async fn connect(&self) -> Result<Client, WorkersError> {
        let (client, connection) = self
            .config
            .connect(NoTls)
            .await
            .map_err(|e| failed(told(&e)))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(
                    reason = told(&error),
                    "a connection to the workers' database ended"
                );
            }
        });
        let session = client.batch_execute(SESSION).await;
        session.map_err(|e| failed(told(&e)))?;
        let prepared = SCHEMA.prepare(&client, &self.key_check).await;
        if !prepared.map_err(failed)? {
            return Err(WorkersError::Key {
                what: "the database",
            });
        }
        Ok(client)
    }

    /// One statement. After a failure the session is given up.
    async fn query(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, WorkersError> {
        let mut client = self.client.lock().await;
        let asked = async {
            let session = match client.take().filter(|c| !c.is_closed()) {
                Some(session) => session,
                None => self.connect().await?,
            };
            let rows = session.query(sql, params).await;
            let rows = rows.map_err(|e| failed(told(&e)))?;
            Ok::<_, WorkersError>((session, rows))
        };
        let asked = timeout(DEADLINE, asked).await;
        let (session, rows) = asked.map_err(|_| failed("no answer before the deadline"))??;
        *client = Some(session);
        Ok(rows)
    }

    /// Connects, if that has not been done, and checks the key.
    ///
    /// # Errors
    /// [`WorkersError::Database`], [`WorkersError::Key`].
    pub async fn check(&self) -> Result<(), WorkersError> {
        self.query("SELECT 1", &[]).await.map(drop)
    }

    /// Puts buckets of a list there, each with what its worker has to know. One that is there is put anew.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub async fn put(&self, list: &[u8; 16], jobs: &[(u32, &[u8])]) -> Result<(), WorkersError> {
        let (mut buckets, mut sealed) = (Vec::new(), Vec::new());
        for (bucket, job) in jobs {
            let bucket = number(*bucket)?;
            let job = self.rows.seal(&place(list, bucket), job);
            sealed.push(job.ok_or_else(|| failed("a job that cannot be sealed"))?);
            buckets.push(bucket);
        }
        let sql = "INSERT INTO tally_psi_buckets (list, bucket, job) SELECT $1, n.bucket, n.job \
                   FROM unnest($2::int[], $3::bytea[]) AS n(bucket, job) \
                   ON CONFLICT (list, bucket) DO UPDATE SET job = excluded.job, lease_until = NULL";
        let params: &[&(dyn ToSql + Sync)] = &[&list.as_slice(), &buckets, &sealed];
        self.query(sql, params).await.map(drop)
    }

    /// Takes a bucket that nobody has, for `lease`; `None` if there is none.
    ///
    /// # Errors
    /// As [`Self::check`]; [`WorkersError::Key`] also for a job that was changed.
    pub async fn take(&self, worker: &str, lease: Duration) -> Result<Option<Taken>, WorkersError> {
        let rows = self.query(TAKE, &[&worker, &lease.as_secs_f64()]).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let wrong = || failed("a row of another form");
        let (list, bucket) = (row.get::<_, &[u8]>(0), row.get::<_, i32>(1));
        let job = self.rows.open(&place(list, bucket), row.get::<_, &[u8]>(3));
        Ok(Some(Taken {
            lease: Lease {
                list: list.try_into().map_err(|_| wrong())?,
                bucket: bucket.try_into().map_err(|_| wrong())?,
                attempt: row.get::<_, i32>(2).try_into().map_err(|_| wrong())?,
            },
            job: job.ok_or(WorkersError::Key {
                what: "the job of a bucket",
            })?,
        }))
    }

    /// Sets when a hold ends, from now on: a while on for a worker that lives, soon for one that lets go; `false` if the bucket is gone,
    /// or somebody else has it.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub async fn hold(&self, lease: &Lease, for_: Duration) -> Result<bool, WorkersError> {
        let (bucket, attempt) = (number(lease.bucket)?, number(lease.attempt)?);
        let sql = "UPDATE tally_psi_buckets SET lease_until = now() + $4::float8 * interval '1 second' \
                   WHERE list = $1 AND bucket = $2 AND attempt = $3 RETURNING 1";
        let list = lease.list.as_slice();
        let params: &[&(dyn ToSql + Sync)] = &[&list, &bucket, &attempt, &for_.as_secs_f64()];
        Ok(!self.query(sql, params).await?.is_empty())
    }

    /// Takes buckets of a list off the queue: one, or all of them.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub async fn remove(&self, list: &[u8; 16], bucket: Option<u32>) -> Result<(), WorkersError> {
        let bucket = bucket.map(number).transpose()?;
        let sql =
            "DELETE FROM tally_psi_buckets WHERE list = $1 AND ($2::int IS NULL OR bucket = $2)";
        self.query(sql, &[&list.as_slice(), &bucket])
            .await
            .map(drop)
    }
}
