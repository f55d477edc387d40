// SPDX-License-Identifier: Apache-2.0

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::config::FilePath;
use super::*;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A store in a directory of its own.
struct Scratch {
    directory: PathBuf,
    store: Store,
}

impl Scratch {
    fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nightlatch-store-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let store = Store::open(&at(&directory)).unwrap();
        Self { directory, store }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn at(directory: &std::path::Path) -> StoreAt {
    StoreAt::Sqlite(FilePath::try_from(directory.join("store.sqlite")).unwrap())
}

fn pair(key: &str, value: &str) -> (String, Vec<u8>) {
    (key.into(), value.into())
}

#[test]
fn a_key_is_created_once() {
    let scratch = Scratch::new();
    let made = scratch
        .store
        .create(&[pair("a/1", "one"), pair("a/2", "two")]);
    assert_eq!(made.unwrap(), [None, None]);
    let made = scratch
        .store
        .create(&[pair("a/1", "other"), pair("a/3", "three")]);
    let [Some(there), None] = &made.unwrap()[..] else {
        panic!("a key was created twice");
    };
    assert_eq!(there.value, b"one");
    assert_eq!(scratch.store.get("a/3").unwrap().unwrap().value, b"three");
    assert!(scratch.store.get("a/4").unwrap().is_none());
}

#[test]
fn only_what_was_read_is_swapped_or_removed() {
    let scratch = Scratch::new();
    let store = &scratch.store;
    store.create(&[pair("a/1", "one")]).unwrap();
    let old = store.get("a/1").unwrap().unwrap();
    let swap = |old: &Entry, value: &str| store.swap(&[(old.clone(), value.into())]).unwrap();
    assert_eq!(swap(&old, "two"), [true]);
    assert_eq!(swap(&old, "three"), [false]);
    assert!(!store.remove(&old).unwrap());
    let new = store.get("a/1").unwrap().unwrap();
    assert_eq!(new.value, b"two");
    assert!(store.remove(&new).unwrap());
    // The same value under the same key is another one.
    store.create(&[pair("a/1", "two")]).unwrap();
    assert_eq!(swap(&new, "three"), [false]);
}

#[test]
fn keys_are_listed_in_order_and_in_parts() {
    let scratch = Scratch::new();
    let new = ["b/1", "a/2", "a/1", "a/3", "a%/4"].map(|key| pair(key, "x"));
    scratch.store.create(&new).unwrap();
    let keys = |after: &str, limit| -> Vec<String> {
        let entries = scratch.store.list("a/", after, limit).unwrap();
        entries.into_iter().map(|entry| entry.key).collect()
    };
    assert_eq!(keys("", 9), ["a/1", "a/2", "a/3"]);
    assert_eq!(keys("", 2), ["a/1", "a/2"]);
    assert_eq!(keys("a/2", 2), ["a/3"]);
}

#[test]
fn of_many_that_create_or_swap_at_once_one_wins() {
    let scratch = Scratch::new();
    let store = &scratch.store;
    let race = |work: &(dyn Fn(usize) -> bool + Sync)| -> usize {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || work(n))).collect();
            threads
                .into_iter()
                .map(|t| usize::from(t.join().unwrap()))
                .sum()
        })
    };
    for round in 0..20 {
        let key = format!("a/{round}");
        let create = |n: usize| store.create(&[pair(&key, &n.to_string())]).unwrap() == [None];
        assert_eq!(race(&create), 1);
        let old = store.get(&key).unwrap().unwrap();
        let swap = |n: usize| {
            store
                .swap(&[(old.clone(), vec![9, u8::try_from(n).unwrap()])])
                .unwrap()
                == [true]
        };
        assert_eq!(race(&swap), 1);
    }
}

#[test]
fn a_store_is_there_after_a_restart_and_belongs_to_its_owner() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    scratch.store.create(&[pair("a/1", "one")]).unwrap();
    let again = Store::open(&at(&scratch.directory)).unwrap();
    assert_eq!(again.get("a/1").unwrap().unwrap().value, b"one");
    for file in std::fs::read_dir(&scratch.directory).unwrap() {
        let mode = file.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn a_store_of_a_later_version_is_left_alone() {
    let scratch = Scratch::new();
    let path = scratch.directory.join("store.sqlite");
    rusqlite::Connection::open(path)
        .unwrap()
        .pragma_update(None, "user_version", 2)
        .unwrap();
    let error = Store::open(&at(&scratch.directory))
        .unwrap_err()
        .to_string();
    assert!(error.contains("its tables have version 2"), "{error}");
}
