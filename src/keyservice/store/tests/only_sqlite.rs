// SPDX-License-Identifier: Apache-2.0
//! What a database of this machine promises beside that.

use super::{Fresh as _, Scratch, Store, at, pair};

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
