// SPDX-License-Identifier: Apache-2.0
//! The store in a database of `SQLite`. The only user of rusqlite.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::Entry;
use crate::error::{Doing, Error, Result};

/// The version of the tables, in the database's `user_version`.
const SCHEMA: i64 = 1;

/// How long a writer waits for another process, a backup for example.
const BUSY_MAX: Duration = Duration::from_secs(5);

/// Revisions are random: one that was seen does not come back after a removal.
const TABLE: &str = "
    CREATE TABLE entry (
        key TEXT PRIMARY KEY NOT NULL,
        value BLOB NOT NULL,
        revision INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// One connection that writes, and as many that read as there were readers at once.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
}

impl Sqlite {
    pub(super) fn open(path: &Path) -> Result<Self> {
        Self::open_now(path).doing(format_args!("opening the store {}", path.display()))
    }

    fn open_now(path: &Path) -> Result<Self> {
        // SQLite gives its other files the mode of the first.
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let mut writer = connect(path)?;
        // A commit is on the disk when it returns (FULL); readers do not wait for writers (WAL).
        writer.pragma_update(None, "journal_mode", "WAL")?;
        writer.pragma_update(None, "synchronous", "FULL")?;
        make_table(&mut writer)?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            readers: Mutex::default(),
        })
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Entry>> {
        self.read(|connection| get(connection, key))
            .doing("reading from the store")
    }

    pub(super) fn get_all(&self, keys: &[String]) -> Result<Vec<Option<Entry>>> {
        self.read(|connection| keys.iter().map(|key| get(connection, key)).collect())
            .doing("reading from the store")
    }

    pub(super) fn list(&self, prefix: &str, after: &str, limit: u32) -> Result<Vec<Entry>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT key, value, revision FROM entry
                     WHERE key >= ?1 AND key > ?2 AND substr(key, 1, length(?1)) = ?1
                     ORDER BY key LIMIT ?3",
                )?
                .query_map(params![prefix, after, limit], entry)?
                .collect()
        })
        .doing("reading from the store")
    }

    pub(super) fn create(&self, new: &[(String, Vec<u8>)]) -> Result<Vec<Option<Entry>>> {
        self.write(|transaction| {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO entry VALUES (?1, ?2, random()) ON CONFLICT DO NOTHING",
            )?;
            let create = |(key, value): &(String, Vec<u8>)| match insert.execute((key, value))? {
                0 => get(transaction, key),
                _ => Ok(None),
            };
            new.iter().map(create).collect()
        })
    }

    pub(super) fn swap(&self, changes: &[(Entry, Vec<u8>)]) -> Result<Vec<bool>> {
        self.write(|transaction| {
            let mut update = transaction.prepare_cached(
                "UPDATE entry SET value = ?1, revision = random() WHERE key = ?2 AND revision = ?3",
            )?;
            changes
                .iter()
                .map(|(old, value)| Ok(update.execute((value, &old.key, old.revision))? == 1))
                .collect()
        })
    }

    pub(super) fn remove(&self, old: &Entry) -> Result<bool> {
        self.write(|transaction| {
            let count = transaction
                .prepare_cached("DELETE FROM entry WHERE key = ?1 AND revision = ?2")?
                .execute((&old.key, old.revision))?;
            Ok(count == 1)
        })
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        let idle = lock(&self.readers).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path)?,
        };
        let done = work(&connection)?;
        // One that failed is closed instead.
        lock(&self.readers).push(connection);
        Ok(done)
    }

    fn write<T>(&self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
        let mut writer = lock(&self.writer);
        let run = || -> rusqlite::Result<T> {
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        };
        run().doing("writing to the store")
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_MAX)?;
    Ok(connection)
}

fn make_table(writer: &mut Connection) -> Result<()> {
    let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match version {
        SCHEMA => Ok(()),
        0 => {
            transaction.execute_batch(TABLE)?;
            transaction.pragma_update(None, "user_version", SCHEMA)?;
            transaction.commit().map_err(Error::from)
        }
        other => Err(Error::config(format_args!(
            "its tables have version {other}, and this program knows version {SCHEMA}: \
             it was made by a later one, or is no store"
        ))),
    }
}

fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<Entry>> {
    connection
        .prepare_cached("SELECT key, value, revision FROM entry WHERE key = ?1")?
        .query_row([key], entry)
        .optional()
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        key: row.get(0)?,
        value: row.get(1)?,
        revision: row.get(2)?,
    })
}

/// A thread that panicked left a transaction, which was rolled back.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The store is a service's disk: full, slow or gone, it may come back.
impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Self::temporary(error)
    }
}
