// SPDX-License-Identifier: Apache-2.0
//! A store and the master secrets that it is started with.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::error::Exit;
use crate::key::{KEY_LEN, Secret};
use crate::keyservice::config::StoreAt;

static COUNT: AtomicU32 = AtomicU32::new(0);

struct Fleet {
    directory: PathBuf,
    store: Store,
}

impl Fleet {
    fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nightlatch-master-check-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let at = StoreAt::Sqlite(directory.join("store").try_into().unwrap());
        let store = Store::open(&at).unwrap();
        Self { directory, store }
    }

    /// As a store was that has records of nodes, before it had a check value.
    fn with_a_volume() -> Self {
        let fleet = Self::new();
        let volume = (format!("{VOLUMES}a6c7535f"), b"{}".to_vec());
        assert_eq!(fleet.store.create(&[volume]).unwrap(), [None]);
        fleet
    }

    fn start(&self, number: u8, from: &str) -> Result<()> {
        let from: SecretFrom = toml::from_str(from).unwrap();
        compare(&self.store, &master(number), &from)
    }

    fn refused(&self, number: u8, from: &str, why: &str) {
        let error = self.start(number, from).unwrap_err();
        assert_eq!(error.exit(), Exit::Refused);
        assert!(error.to_string().contains(why), "{error}");
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn master(number: u8) -> Master {
    let part = || Secret::new(vec![number; KEY_LEN]);
    Master::new(part(), part(), [0; KEY_LEN]).unwrap()
}

/// The lines of a configuration that names the check value of this master secret.
fn named(number: u8, from: &str) -> String {
    let value = master(number).check_value().unwrap();
    format!("{from}\ncheck-value = \"{value}\"")
}

const PLAIN: &str = "master = \"file:/m\"";
const WRAPPED: &str = "master = \"wrapped:/m\"";
const OTHER: &str = "the store has seen another master secret";
const NO_RECORD: &str =
    "the store has volumes and no check value of their master secret, so nothing shows";

#[test]
fn the_first_master_secret_is_recorded_plain_or_wrapped_and_another_is_refused() {
    for (first, then) in [
        (PLAIN, WRAPPED),
        (WRAPPED, PLAIN),
        (PLAIN, PLAIN),
        (WRAPPED, WRAPPED),
    ] {
        let fleet = Fleet::new();
        fleet.start(1, first).unwrap();
        fleet.refused(2, then, OTHER);
        fleet.start(1, then).unwrap();
    }
}

#[test]
fn a_wrapped_master_secret_is_not_the_first_that_a_store_with_volumes_sees() {
    let fleet = Fleet::with_a_volume();
    fleet.refused(2, WRAPPED, NO_RECORD);
    // Nothing was recorded of it.
    fleet.start(1, PLAIN).unwrap();
    fleet.refused(2, WRAPPED, OTHER);
    fleet.start(1, WRAPPED).unwrap();
}

#[test]
fn whoever_names_the_check_value_decides_over_the_record() {
    // Where there is none,
    let fleet = Fleet::with_a_volume();
    fleet.start(1, &named(1, WRAPPED)).unwrap();
    fleet.start(1, WRAPPED).unwrap();
    fleet.refused(2, WRAPPED, OTHER);
    // where it is the wrong one,
    fleet.start(2, &named(2, PLAIN)).unwrap();
    fleet.refused(1, PLAIN, OTHER);
    fleet.start(2, PLAIN).unwrap();
    // and it says no to the one that is recorded.
    let other = "secret.check-value names another master secret";
    fleet.refused(2, &named(1, PLAIN), other);
    fleet.start(2, &named(2, PLAIN)).unwrap();
}
