// SPDX-License-Identifier: Apache-2.0
//! The same promises, kept by both stores.

mod mutual_etcd;
mod only_sqlite;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::super::config::FilePath;
use super::*;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A store that is nobody else's.
trait Fresh {
    fn new() -> Self;
    fn store(&self) -> &Store;
}

/// In a directory of its own.
struct Scratch {
    directory: PathBuf,
    store: Store,
}

impl Fresh for Scratch {
    fn new() -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nightlatch-store-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let store = Store::open(&at(&directory)).unwrap();
        Self { directory, store }
    }

    fn store(&self) -> &Store {
        &self.store
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn at(directory: &Path) -> StoreAt {
    StoreAt::Sqlite(FilePath::try_from(directory.join("store.sqlite")).unwrap())
}

/// In an etcd of its own. The first endpoint is one where nobody listens.
struct Cluster {
    _server: crate::support::etcd::Server,
    store: Store,
}

impl Fresh for Cluster {
    fn new() -> Self {
        let server = crate::support::etcd::Server::start();
        let endpoints = format!("endpoints = [\"http://127.0.0.1:1\", {:?}]", server.url());
        let store = Store::open(&StoreAt::Etcd(toml::from_str(&endpoints).unwrap())).unwrap();
        Self {
            _server: server,
            store,
        }
    }

    fn store(&self) -> &Store {
        &self.store
    }
}

/// Each of these is a test of both stores.
macro_rules! promises {
    ($($promise:ident,)*) => {
        mod in_sqlite {
            $(#[test] fn $promise() { super::$promise::<super::Scratch>(); })*
        }
        mod in_etcd {
            $(#[test] fn $promise() { super::$promise::<super::Cluster>(); })*
        }
    };
}

promises!(
    a_key_is_created_once,
    only_what_was_read_is_swapped_or_removed,
    keys_are_listed_in_order_and_in_parts,
    each_of_many_is_decided_by_itself,
    of_many_that_create_or_swap_at_once_one_wins,
    of_many_that_read_at_once_each_hears_of_its_own_keys,
);

fn pair(key: &str, value: &str) -> (String, Vec<u8>) {
    (key.into(), value.into())
}

fn a_key_is_created_once<S: Fresh>() {
    let fresh = S::new();
    let store = fresh.store();
    let made = store.create(&[pair("a/1", "one"), pair("a/2", "two")]);
    assert_eq!(made.unwrap(), [None, None]);
    let made = store.create(&[pair("a/1", "other"), pair("a/3", "three")]);
    let [Some(there), None] = &made.unwrap()[..] else {
        panic!("a key was created twice");
    };
    assert_eq!((there.key.as_str(), &there.value[..]), ("a/1", &b"one"[..]));
    assert_eq!(store.get("a/1").unwrap().as_ref(), Some(there));
    assert_eq!(store.get("a/3").unwrap().unwrap().value, b"three");
    assert!(store.get("a/4").unwrap().is_none());
}

fn only_what_was_read_is_swapped_or_removed<S: Fresh>() {
    let fresh = S::new();
    let store = fresh.store();
    store.create(&[pair("a/1", "one")]).unwrap();
    let old = store.get("a/1").unwrap().unwrap();
    let swap = |old: &Entry, value: &str| store.swap(&[(old.clone(), value.into())]).unwrap();
    assert_eq!(swap(&old, "two"), [true]);
    assert_eq!(swap(&old, "three"), [false]);
    assert!(!store.remove(&old).unwrap());
    let new = store.get("a/1").unwrap().unwrap();
    assert_eq!(new.value, b"two");
    assert!(store.remove(&new).unwrap());
    assert!(store.get("a/1").unwrap().is_none());
    assert!(!store.remove(&new).unwrap());
    // The same value under the same key is another one.
    store.create(&[pair("a/1", "two")]).unwrap();
    assert_eq!(swap(&new, "three"), [false]);
}

fn keys_are_listed_in_order_and_in_parts<S: Fresh>() {
    let fresh = S::new();
    let store = fresh.store();
    let new = ["b/1", "a/2", "a/1", "a/3", "a%/4"].map(|key| pair(key, "x"));
    store.create(&new).unwrap();
    let keys = |after: &str, limit| -> Vec<String> {
        let entries = store.list("a/", after, limit).unwrap();
        entries.into_iter().map(|entry| entry.key).collect()
    };
    assert_eq!(keys("", 9), ["a/1", "a/2", "a/3"]);
    assert_eq!(keys("", 2), ["a/1", "a/2"]);
    assert_eq!(keys("a/2", 2), ["a/3"]);
    assert_eq!(keys("a/3", 2), Vec::<String>::new());
}

/// More than are in one transaction of etcd.
fn each_of_many_is_decided_by_itself<S: Fresh>() {
    let fresh = S::new();
    let store = fresh.store();
    let keys: Vec<String> = (0..200).map(|n| format!("a/{n:03}")).collect();
    let odd: Vec<_> = keys
        .iter()
        .skip(1)
        .step_by(2)
        .map(|key| pair(key, "odd"))
        .collect();
    store.create(&odd).unwrap();
    let all: Vec<_> = keys.iter().map(|key| pair(key, "new")).collect();
    let made = store.create(&all).unwrap();
    let mut entries = store.get_all(&keys).unwrap();
    assert_eq!((made.len(), entries.len()), (200, 200));
    for (n, (there, entry)) in made.iter().zip(&entries).enumerate() {
        let entry = entry.as_ref().unwrap();
        let expected = if n % 2 == 0 { "new" } else { "odd" };
        assert_eq!(
            (&entry.key, &entry.value[..]),
            (&keys[n], expected.as_bytes())
        );
        assert_eq!(there.as_ref(), (n % 2 == 1).then_some(entry));
    }
    let third = entries[3].clone().unwrap();
    assert_eq!(store.swap(&[(third, b"later".to_vec())]).unwrap(), [true]);
    let changes: Vec<_> = entries
        .drain(..)
        .map(|old| (old.unwrap(), b"last".to_vec()))
        .collect();
    let swapped = store.swap(&changes).unwrap();
    let expected: Vec<bool> = (0..200).map(|n| n != 3).collect();
    assert_eq!(swapped, expected);
    assert_eq!(
        store.get_all(&["a/003".into(), "b".into()]).unwrap()[0]
            .as_ref()
            .unwrap()
            .value,
        b"later"
    );
    assert!(store.get_all(&["b".into()]).unwrap()[0].is_none());
    assert!(store.create(&[]).unwrap().is_empty() && store.get_all(&[]).unwrap().is_empty());
}

fn of_many_that_create_or_swap_at_once_one_wins<S: Fresh>() {
    let fresh = S::new();
    let store = fresh.store();
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

fn of_many_that_read_at_once_each_hears_of_its_own_keys<S: Fresh>() {
    let fresh = S::new();
    let store = fresh.store();
    let key = |n: usize| format!("a/{n:02}");
    let new: Vec<_> = (0..16).map(|n| pair(&key(n), &n.to_string())).collect();
    store.create(&new).unwrap();
    let is_own = |n: usize, entry: Option<Entry>| {
        let entry = entry.unwrap();
        assert_eq!((entry.key, entry.value), (key(n), n.to_string().into()));
    };
    std::thread::scope(|scope| {
        for n in 0..16 {
            scope.spawn(move || {
                for _ in 0..20 {
                    is_own(n, store.get(&key(n)).unwrap());
                    let others = [key((n + 1) % 16), "a/absent".into(), key((n + 2) % 16)];
                    let [next, None, after] = &store.get_all(&others).unwrap()[..] else {
                        panic!("what is absent was read");
                    };
                    is_own((n + 1) % 16, next.clone());
                    is_own((n + 2) % 16, after.clone());
                }
            });
        }
    });
}
