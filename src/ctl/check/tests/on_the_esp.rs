// SPDX-License-Identifier: Apache-2.0
//! A node whose images are on an ESP.

use std::fs;
use std::path::PathBuf;

use super::Node;
use crate::ctl::Answer;
use crate::ctl::tests::run;
use crate::error::{Exit, Result};
use crate::support::unified::program;

const VARIABLES: &str = "sys/firmware/efi/efivars";
const STUB: &str =
    "sys/firmware/efi/efivars/StubImageIdentifier-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

fn put(node: &Node, path: &str, bytes: &[u8]) -> PathBuf {
    let path = node.top.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// The firmware starts this one, as it did.
fn starts(node: &Node, name: &str) {
    for variable in ["BootOrder", "BootCurrent"] {
        let path = format!("{VARIABLES}/{variable}-8be4df61-93ca-11d2-aa0d-00e098032b8c");
        put(node, &path, &[7, 0, 0, 0, 1, 0]);
    }
    let units = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes);
    put(
        node,
        STUB,
        &[6, 0, 0, 0].into_iter().chain(units).collect::<Vec<u8>>(),
    );
}

/// The exit code, and of each image its name, whether it is the default, and its result.
fn told(answer: &Answer) -> (Option<Exit>, Vec<(String, bool, String)>) {
    let images = answer.json["images"].as_array().unwrap().iter();
    let of = |json: &serde_json::Value| {
        let name = json["file"]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned();
        let is_default = json["default"].as_bool().unwrap();
        (
            name,
            is_default,
            json["result"].as_str().unwrap().to_owned(),
        )
    };
    (answer.exit, images.map(of).collect())
}

fn check(node: &Node) -> Result<Answer> {
    run(&node.top, &["check"])
}

#[test]
fn the_image_that_is_booted_next_decides_where_that_is_known() {
    let node = Node::new("esp");
    let one = node.image("one");
    node.boot(&one);
    let line =
        |name: &str, is_default, result: &str| (name.to_owned(), is_default, result.to_owned());
    put(&node, "efi/EFI/Linux/one.efi", &one);
    assert_eq!(
        told(&check(&node).unwrap()),
        (None, vec![line("one.efi", false, "opens")])
    );
    // Any of them may be next.
    put(&node, "efi/EFI/Linux/another.efi", &node.image("two"));
    let no = line("another.efi", false, "refused");
    let opens = line("one.efi", false, "opens");
    assert_eq!(
        told(&check(&node).unwrap()),
        (Some(Exit::Refused), vec![no.clone(), opens])
    );
    starts(&node, "\\EFI\\LINUX\\ONE.EFI");
    let answer = check(&node).unwrap();
    let first = line("one.efi", true, "opens");
    assert_eq!(told(&answer), (None, vec![first, no]));
    assert!(
        answer
            .text
            .starts_with("the next boot, with EFI/LINUX/ONE.EFI, opens each volume unattended\n\n"),
        "{}",
        answer.text
    );
    starts(&node, "\\EFI\\Linux\\another.efi");
    let answer = check(&node).unwrap();
    assert_eq!(told(&answer).0, Some(Exit::Refused));
    assert_eq!(answer.json["images"][0]["volumes"][0]["opens"], "nothing");
}

#[test]
fn what_is_no_image_of_the_kind_is_passed_over_with_a_word() {
    let node = Node::new("others");
    let one = node.image("one");
    node.boot(&one);
    let loader = put(
        &node,
        "boot/EFI/BOOT/BOOTX64.EFI",
        &program(&[(".text", b"a loader")]),
    );
    let text = put(&node, "boot/EFI/BOOT/broken.efi", b"no program");
    let error = check(&node).err().unwrap();
    assert_eq!(error.exit(), Exit::Unavailable, "{error}");
    assert_eq!(
        error.to_string(),
        "there is no unified kernel image on the ESP; say which image with its name"
    );
    put(&node, "boot/EFI/Linux/one.efi", &one);
    let answer = check(&node).unwrap();
    assert_eq!(answer.exit, None, "{}", answer.text);
    let named = [&loader, &text].map(|path| path.display().to_string());
    assert_eq!(answer.json["passed-over"], serde_json::json!(named));
    for name in named {
        let words = format!("passed over: {name}, which is no unified kernel image\n");
        assert!(answer.text.contains(&words), "{}", answer.text);
    }
    // Not so where that is what is started.
    starts(&node, "\\EFI\\BOOT\\BOOTX64.EFI");
    let answer = check(&node).unwrap();
    assert_eq!(answer.exit, Some(Exit::Unavailable));
    assert_eq!(
        answer.json["error"],
        "what is booted next, EFI/BOOT/BOOTX64.EFI, is no unified kernel image on the ESP"
    );
}
