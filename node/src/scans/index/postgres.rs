//! The index that several gateways of one member share, in PostgreSQL.
//!
//! ```text
//! tally_scan_meta    version of these tables; a check of the member's key, so that no gateway names codes otherwise than the others
//! tally_scan_codes   code: 16 bytes of an HMAC of the code's hash; data: its row, sealed
//! tally_scan_logs    for each gateway's log: leaves whose effects are in tally_scan_codes; the lines of its last group, sealed
//! ```
//! A group is one transaction. It makes and locks the rows of its codes in the order of their names (one round trip), and sets them together
//! with the group's lines (another). Another gateway waits for a row as long as that takes, so that of two scans exactly one finds it
//! empty. The lines make the rest safe: a gateway that dies between this commit and its own log finds them here and puts them into the log.
//! A session holds an advisory lock for its log: what an older session of the same log was doing is over when the lock is had.

use std::str::FromStr as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tally_contracts::codec::Canonical;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Row, Statement};
use zeroize::Zeroizing;

use super::{CodeHash, Group, IndexError, Resume, ScanError, ScanIndex, Seen, Wanted};
use crate::database::{Schema, told};
use crate::sealed::{RowSealer, StorageKey};

/// First half of the advisory locks of gateways; the second is the log's ID.
const GATEWAY_LOCK: i32 = 0x7461_6c79;
const SCHEMA: Schema = Schema {
    meta: "tally_scan_meta",
    tables: TABLES,
    version: 1,
    lock: 0x7461_6c6c_7900_0001,
};
/// How long the database may take for one step.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(2);
/// The first wait after a failure to connect; it doubles with each further one.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// How a session begins. What is acknowledged is on the database's disk; a gateway that hangs holds no row for long.
const SESSION: &str = "SET synchronous_commit = on; SET statement_timeout = '4s'; SET lock_timeout = '3s'; \
                       SET idle_in_transaction_session_timeout = '5s'";

/// Lines are sealed, so that trying to compress them is lost time: it is half the cost of noting a group.
const TABLES: &str = "\
    CREATE TABLE tally_scan_meta (id int PRIMARY KEY CHECK (id = 1), version int NOT NULL, key_check bytea NOT NULL); \
    CREATE TABLE tally_scan_codes (code bytea PRIMARY KEY, data bytea NOT NULL); \
    CREATE TABLE tally_scan_logs (log_id int PRIMARY KEY, applied bigint NOT NULL, lines bytea[] NOT NULL); \
    ALTER TABLE tally_scan_logs ALTER COLUMN lines SET STORAGE EXTERNAL";

/// A shared index, with its secrets.
pub struct SharedIndex {
    /// The database as `postgres://USER@HOST[:PORT]/DATABASE`, or of another form that libpq knows, without a password.
    pub url: String,
    /// Its password, if it asks for one.
    pub password: Option<Zeroizing<String>>,
    /// The key under which every gateway of the member names codes and seals rows.
    pub key: StorageKey,
}

struct Session {
    client: Client,
    make: Statement,
    lock: Statement,
    look: Statement,
    set: Statement,
    note: Statement,
    /// Whether a transaction is open.
    open: bool,
}

#[derive(Default)]
struct Writing {
    session: Option<Session>,
    backoff: Backoff,
}

#[derive(Default)]
struct Backoff {
    wait: Duration,
    until: Option<Instant>,
    reason: String,
}

impl Backoff {
    fn check(&self) -> Result<(), String> {
        match self.until {
            Some(until) if Instant::now() < until => Err(self.reason.clone()),
            _ => Ok(()),
        }
    }

    fn failed(&mut self, reason: &str) {
        self.wait = (self.wait * 2).clamp(RETRY_MIN, RETRY_MAX);
        self.until = Some(Instant::now() + self.wait);
        reason.clone_into(&mut self.reason);
    }
}

/// What both kinds of session need.
struct Database {
    config: Config,
    log_id: i32,
    names: StorageKey,
    rows: RowSealer,
    key_check: Vec<u8>,
    away: Mutex<Option<String>>,
}

/// See the module.
pub(in super::super) struct PostgresIndex {
    database: Arc<Database>,
    writing: Mutex<Writing>,
    reading: Arc<tokio::sync::Mutex<(Option<Client>, Backoff)>>,
    /// Its own thread, so that the writer can wait and readers need not.
    runtime: Option<Runtime>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic left half done is a session, which is rolled back or replaced.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

const LATE: &str = "no answer before the deadline";

impl Database {
    fn name(&self, code: &CodeHash) -> [u8; 16] {
        let mac = self.names.mac(&[&code.0]);
        std::array::from_fn(|i| mac.get(i).copied().unwrap_or_default())
    }

    fn set_away(&self, reason: Option<&str>) {
        let mut away = locked(&self.away);
        match (&*away, reason) {
            (None, Some(reason)) => tracing::error!(reason, "the scan index is away"),
            (Some(_), None) => tracing::info!("the scan index is back"),
            _ => {}
        }
        *away = reason.map(ToOwned::to_owned);
    }

    fn line_place(&self) -> [u8; 8] {
        let mut out = *b"line\0\0\0\0";
        out[4..].copy_from_slice(&self.log_id.to_be_bytes());
        out
    }

    fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, IndexError> {
        let sealed = self.rows.seal(place, plain);
        sealed.ok_or(IndexError::Failed(ScanError::Internal {
            what: "a row that cannot be sealed",
        }))
    }

    fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, IndexError> {
        let plain = self.rows.open(place, sealed);
        plain.ok_or(IndexError::Failed(ScanError::Shared {
            what: "a row does not open: it was changed, or sealed under another key",
        }))
    }

    fn row(&self, name: &[u8], data: &[u8]) -> Result<Seen, IndexError> {
        if data.is_empty() {
            return Ok(Seen::default());
        }
        let plain = self.open(name, data)?;
        Ok(Seen::from_bytes(&plain).map_err(ScanError::from)?)
    }

    async fn connect(&self) -> Result<Client, String> {
        let connected = timeout(CONNECT, self.config.connect(NoTls));
        let (client, connection) = connected
            .await
            .map_err(|_| LATE.to_owned())?
            .map_err(|e| told(&e))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(
                    reason = told(&error),
                    "a connection to the scan index ended"
                );
            }
        });
        client.batch_execute(SESSION).await.map_err(|e| told(&e))?;
        Ok(client)
    }

    /// A session that may write: the only one of this log.
    async fn begin_session(&self) -> Result<Session, String> {
        let client = self.connect().await?;
        let fail = |e: tokio_postgres::Error| told(&e);
        // An earlier session of this log, killed with its gateway, may take a moment to end.
        client
            .batch_execute("SET lock_timeout = '1s'")
            .await
            .map_err(fail)?;
        let lock = "SELECT pg_advisory_lock($1, $2)";
        let locked = client.execute(lock, &[&GATEWAY_LOCK, &self.log_id]).await;
        locked.map_err(|e| match e.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => format!(
                "another session writes for log {}: an earlier one that is not over yet, or another gateway with the same \
                 scans.log_id",
                self.log_id
            ),
            _ => told(&e),
        })?;
        client
            .batch_execute("SET lock_timeout = '3s'")
            .await
            .map_err(fail)?;
        if !SCHEMA.prepare(&client, &self.key_check).await? {
            return Err("it was made under another key: scans.index_key_file must be the same at every gateway".into());
        }
        let prepare = |sql: &'static str| client.prepare(sql);
        let make = prepare(
            "INSERT INTO tally_scan_codes (code, data) SELECT k, ''::bytea FROM unnest($1::bytea[]) AS k ON CONFLICT DO NOTHING",
        );
        let lock = prepare(
            "SELECT code, data FROM tally_scan_codes WHERE code = ANY($1::bytea[]) ORDER BY code FOR UPDATE",
        );
        let look = prepare("SELECT code, data FROM tally_scan_codes WHERE code = ANY($1::bytea[])");
        let set = prepare(
            "UPDATE tally_scan_codes AS c SET data = n.data FROM unnest($1::bytea[], $2::bytea[]) AS n(code, data) \
             WHERE c.code = n.code",
        );
        let note = prepare(
            "INSERT INTO tally_scan_logs (log_id, applied, lines) VALUES ($1, $2, $3) ON CONFLICT (log_id) DO UPDATE \
             SET applied = excluded.applied, lines = excluded.lines",
        );
        let (make, lock, look, set, note) =
            futures::try_join!(make, lock, look, set, note).map_err(fail)?;
        Ok(Session {
            make,
            lock,
            look,
            set,
            note,
            client,
            open: false,
        })
    }
}

impl Session {
    async fn roll_back(&mut self) -> Result<(), tokio_postgres::Error> {
        if self.open {
            self.client.batch_execute("ROLLBACK").await?;
            self.open = false;
        }
        Ok(())
    }

    async fn rows(
        &mut self,
        change: &[&[u8]],
        look: &[&[u8]],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.roll_back().await?;
        let Self {
            client,
            make: make_rows,
            lock: lock_rows,
            look: look_rows,
            ..
        } = self;
        let (change_is, look_is): (Params<'_>, Params<'_>) = (&[&change], &[&look]);
        if change.is_empty() {
            return client.query(look_rows, look_is).await;
        }
        self.open = true;
        // Polled in this order, so sent in this order, without waiting between.
        let (begun, made, looked, changed) = futures::join!(
            client.batch_execute("BEGIN"),
            client.execute(make_rows, change_is),
            client.query(look_rows, look_is),
            client.query(lock_rows, change_is),
        );
        begun?;
        made?;
        let mut rows = looked?;
        rows.extend(changed?);
        Ok(rows)
    }
}

impl PostgresIndex {
    /// For the log `log_id` of the member. Nothing is connected yet: it may be away.
    pub(in super::super) fn new(shared: &SharedIndex, log_id: u16) -> Result<Self, ScanError> {
        // The reason might repeat the URL.
        let mut config = Config::from_str(&shared.url).map_err(|_| ScanError::Shared {
            what: "its URL is none of PostgreSQL",
        })?;
        if let Some(password) = &shared.password {
            config.password(password.as_bytes());
        }
        config.application_name("tally").connect_timeout(CONNECT);
        let key = shared.key.derive("tally/shared-scan-index/v1");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("scan-index-db")
            .enable_all()
            .build()
            .map_err(|_| ScanError::Internal {
                what: "no thread for the scan index",
            })?;
        Ok(Self {
            database: Arc::new(Database {
                config,
                log_id: log_id.into(),
                names: key.derive("names"),
                rows: RowSealer::new(&key.derive("rows")),
                key_check: key.derive("check").mac(&[]).to_vec(),
                away: Mutex::default(),
            }),
            writing: Mutex::default(),
            reading: Arc::default(),
            runtime: Some(runtime),
        })
    }

    fn wait_for<T>(&self, work: impl Future<Output = T>) -> Result<T, String> {
        let runtime = self.runtime.as_ref().ok_or("closed")?;
        runtime
            .block_on(async { timeout(DEADLINE, work).await })
            .map_err(|_| LATE.to_owned())
    }

    /// Does something in the session, which is begun if there is none. After any failure the session is given up.
    fn with_session<T>(
        &self,
        work: impl AsyncFnOnce(&mut Session) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, IndexError> {
        let mut writing = locked(&self.writing);
        let away = |reason: String| {
            self.database.set_away(Some(&reason));
            IndexError::Away { reason }
        };
        if writing
            .session
            .as_ref()
            .is_none_or(|s| s.client.is_closed())
        {
            writing.session = None;
            writing.backoff.check().map_err(away)?;
            let begun = self.wait_for(self.database.begin_session());
            match begun.and_then(|b| b) {
                Ok(session) => {
                    writing.session = Some(session);
                    writing.backoff = Backoff::default();
                }
                Err(reason) => {
                    writing.backoff.failed(&reason);
                    return Err(away(reason));
                }
            }
        }
        let Some(session) = writing.session.as_mut() else {
            return Err(away("no session".to_owned()));
        };
        match self.wait_for(work(session)) {
            Ok(Ok(done)) => {
                self.database.set_away(None);
                Ok(done)
            }
            Ok(Err(error)) => {
                writing.session = None;
                Err(away(told(&error)))
            }
            Err(reason) => {
                writing.session = None;
                Err(away(reason))
            }
        }
    }
}

fn name_and_data(row: &Row) -> Result<(&[u8], &[u8]), IndexError> {
    let get = |i| {
        row.try_get::<_, &[u8]>(i)
            .map_err(|e| IndexError::Away { reason: told(&e) })
    };
    Ok((get(0)?, get(1)?))
}

#[async_trait]
impl ScanIndex for PostgresIndex {
    fn begin(&self, wanted: &[Wanted]) -> Result<Vec<Seen>, IndexError> {
        let names: Vec<_> = wanted.iter().map(|w| self.database.name(&w.code)).collect();
        let pick = |change: bool| {
            let mut out: Vec<&[u8]> = names
                .iter()
                .zip(wanted)
                .filter(|(_, w)| w.change == change)
                .map(|(name, _)| name.as_slice())
                .collect();
            out.sort_unstable();
            out
        };
        let (change, look) = (pick(true), pick(false));
        let rows = self.with_session(async |session| session.rows(&change, &look).await)?;
        let mut found = std::collections::HashMap::with_capacity(rows.len());
        for row in &rows {
            let (name, data) = name_and_data(row)?;
            found.insert(name.to_vec(), self.database.row(name, data)?);
        }
        Ok(names
            .iter()
            .map(|name| found.remove(name.as_slice()).unwrap_or_default())
            .collect())
    }

    fn commit(&self, rows: &[(CodeHash, Seen)], group: &Group<'_>) -> Result<(), IndexError> {
        if rows.is_empty() {
            return self.with_session(Session::roll_back);
        }
        let (mut names, mut data) = (Vec::new(), Vec::new());
        for (code, seen) in rows {
            let name = self.database.name(code);
            data.push(self.database.seal(&name, &seen.to_bytes())?);
            names.push(name.to_vec());
        }
        let place = self.database.line_place();
        let lines = group
            .lines
            .iter()
            .map(|line| self.database.seal(&place, line))
            .collect::<Result<Vec<_>, _>>()?;
        let applied = i64::try_from(group.base).unwrap_or(i64::MAX);
        let log_id = self.database.log_id;
        let committed = self.with_session(async |session| {
            if !session.open {
                // A session begun anew holds none of the rows.
                return Ok(None);
            }
            let set: Params<'_> = &[&names, &data];
            let note: Params<'_> = &[&log_id, &applied, &lines];
            let (set, noted, committed) = futures::join!(
                session.client.execute(&session.set, set),
                session.client.execute(&session.note, note),
                session.client.batch_execute("COMMIT"),
            );
            session.open = false;
            // A COMMIT after a failed statement rolls back and says nothing.
            let set = set?;
            noted?;
            committed?;
            Ok(Some(set))
        });
        match committed {
            Ok(Some(set)) if set == rows.len() as u64 => Ok(()),
            Ok(Some(_)) => Err(IndexError::Failed(ScanError::Shared {
                what: "rows were removed while they were held",
            })),
            Ok(None) => Err(IndexError::Away {
                reason: "the session ended".to_owned(),
            }),
            Err(IndexError::Away { reason }) => Err(IndexError::Unsure { reason }),
            Err(error) => Err(error),
        }
    }

    fn logged(&self, _: Vec<(CodeHash, Seen)>) {}

    fn is_apart(&self) -> bool {
        true
    }

    fn resume(&self) -> Result<Resume, IndexError> {
        let log_id = self.database.log_id;
        let row = self.with_session(async |session| {
            session.roll_back().await?;
            let sql = "SELECT applied, lines FROM tally_scan_logs WHERE log_id = $1";
            session.client.query_opt(sql, &[&log_id]).await
        })?;
        let Some(row) = row else {
            return Ok(Resume::default());
        };
        let bad = |e: tokio_postgres::Error| IndexError::Away { reason: told(&e) };
        let applied: i64 = row.try_get(0).map_err(bad)?;
        let lines: Vec<&[u8]> = row.try_get(1).map_err(bad)?;
        let place = self.database.line_place();
        Ok(Resume {
            applied: u64::try_from(applied).unwrap_or_default(),
            lines: lines
                .into_iter()
                .map(|line| Ok(self.database.open(&place, line)?.to_vec()))
                .collect::<Result<_, IndexError>>()?,
        })
    }

    async fn seen(&self, code: &CodeHash) -> Result<Seen, IndexError> {
        let name = self.database.name(code);
        let (database, reading) = (Arc::clone(&self.database), Arc::clone(&self.reading));
        let Some(runtime) = &self.runtime else {
            return Err(IndexError::Away {
                reason: "closed".to_owned(),
            });
        };
        let read = runtime.spawn(async move {
            let mut reading = reading.lock().await;
            let (client, backoff) = &mut *reading;
            if client.as_ref().is_none_or(Client::is_closed) {
                backoff.check()?;
                match database.connect().await {
                    Ok(new) => *client = Some(new),
                    Err(reason) => {
                        backoff.failed(&reason);
                        return Err(reason);
                    }
                }
                *backoff = Backoff::default();
            }
            let Some(open) = client.as_ref() else {
                return Err("no session".to_owned());
            };
            let sql = "SELECT data FROM tally_scan_codes WHERE code = $1";
            let begun = Instant::now();
            loop {
                let row = timeout(DEADLINE, open.query_opt(sql, &[&name.as_slice()])).await;
                let reason = match row {
                    Ok(Ok(row)) => {
                        return Ok(row.map(|r| r.get::<_, Vec<u8>>(0)).unwrap_or_default());
                    }
                    // The writer makes the tables when it first connects, which may be a moment after this.
                    Ok(Err(error))
                        if error.code() == Some(&SqlState::UNDEFINED_TABLE)
                            && begun.elapsed() < CONNECT =>
                    {
                        tokio::time::sleep(RETRY_MIN).await;
                        continue;
                    }
                    Ok(Err(error)) => told(&error),
                    Err(_) => LATE.to_owned(),
                };
                *client = None;
                return Err(reason);
            }
        });
        let data = read
            .await
            .map_err(|_| IndexError::Away {
                reason: "closed".to_owned(),
            })?
            .map_err(|reason| IndexError::Away { reason })?;
        self.database.row(&name, &data)
    }

    fn away(&self) -> Option<String> {
        locked(&self.database.away).clone()
    }
}

impl Drop for PostgresIndex {
    fn drop(&mut self) {
        // The session ends with its client; the thread is not waited for.
        locked(&self.writing).session = None;
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
