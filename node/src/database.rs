//! What all clients of the member's PostgreSQL share.

#[cfg(test)]
pub(crate) mod cluster;

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

/// Tables of one kind, made by whoever comes first.
pub(crate) struct Schema {
    /// Of one row: number 1, version, check of the key.
    pub(crate) meta: &'static str,
    /// Makes the tables, that one among them.
    pub(crate) tables: &'static str,
    pub(crate) version: i32,
    /// The advisory lock under which they are made: two may start at the same moment.
    pub(crate) lock: i64,
}

impl Schema {
    /// Makes the tables, or checks that they are of this version. Gives whether they were made under the key of this check.
    pub(crate) async fn prepare(&self, client: &Client, key_check: &[u8]) -> Result<bool, String> {
        let fail = |e: tokio_postgres::Error| told(&e);
        let meta = self.meta;
        client.batch_execute("BEGIN").await.map_err(fail)?;
        client
            .execute("SELECT pg_advisory_xact_lock($1)", &[&self.lock])
            .await
            .map_err(fail)?;
        let there = client
            .query_one("SELECT to_regclass($1) IS NOT NULL", &[&meta])
            .await
            .map_err(fail)?;
        if !there.get::<_, bool>(0) {
            client.batch_execute(self.tables).await.map_err(fail)?;
            let insert = format!("INSERT INTO {meta} VALUES (1, $1, $2)");
            let row: [&(dyn ToSql + Sync); 2] = [&self.version, &key_check];
            client.execute(&insert, &row).await.map_err(fail)?;
        }
        let select = format!("SELECT version, key_check FROM {meta}");
        let row = client.query_one(&select, &[]).await.map_err(fail)?;
        client.batch_execute("COMMIT").await.map_err(fail)?;
        let (found, expected) = (row.get::<_, i32>(0), self.version);
        if found != expected {
            return Err(format!(
                "its tables are of version {found}, expected {expected}"
            ));
        }
        Ok(row.get::<_, &[u8]>(1) == key_check)
    }
}

/// What the database says, and nothing of how it was asked.
pub(crate) fn told(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    let mut out = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(e) = cause {
        out.push_str(": ");
        out.push_str(&e.to_string());
        cause = e.source();
    }
    out
}
