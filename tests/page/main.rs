// SPDX-License-Identifier: Apache-2.0
//! The page for operators as a browser shows it, with a fleet that has something to tell. `tests/page/run` runs it; it
//! needs Chromium, so a plain `cargo test` does not.
//!
//! The page comes from a service that runs, with an operator's certificate, and reaches the browser with all its
//! headers: what the browser refuses because of them is missing in the picture.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    reason = "a test fails by panicking, and does not use all of what others made"
)]

#[path = "../support/programs/mod.rs"]
mod programs;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use nightlatch::config::Role;
use nightlatch::protocol::{Bytes, VolumeRecord};
use programs::daemon::{POLL, patience, uuid};
use programs::operators::Admin;
use support::caller::record_path;
use support::machine::{Machine, volume};

/// What the kernel of a machine that is no friend was started with.
const EVIL: &str = "quiet init=/bin/sh <script>document.title='owned'</script>";
const USUAL: &str = "quiet ro";

#[test]
fn page_in_a_browser() {
    let admin = Admin::start();
    policy(&admin);
    for number in 1..=6 {
        let epoch = u64::from(number);
        boot(&admin, number, &uuid(number), USUAL, Ends::Opens(epoch));
    }
    boot(&admin, 2, &uuid(2), EVIL, Ends::Denied);
    let shell = "quiet ro systemd.debug-shell=1";
    boot(&admin, 9, &uuid(9), shell, Ends::Denied);
    // Two nodes have lost their TPMs. One is there again with a new one, and did not say yet that its volume opened.
    for number in [4, 5] {
        assert!(admin.nodes(&["readmit", &uuid(number)]).status.success());
    }
    boot(&admin, 8, &uuid(5), USUAL, Ends::Admitted(5));
    // What is known of nodes is written down now and then, and the page shows it a little later.
    let deadline = Instant::now() + patience();
    let page = loop {
        let page = fetch(&admin);
        if String::from_utf8_lossy(&page).contains("denied</span><small>image at ") {
            break page;
        }
        assert!(
            Instant::now() < deadline,
            "the denied node is not shown as such"
        );
        thread::sleep(10 * POLL);
    };
    let at = serve(page);
    let html = chromium(&["--dump-dom", &format!("http://{at}/")]);
    // The words are there, as words, and nothing ran.
    assert!(html.contains("init=/bin/sh &lt;script&gt;"), "{html}");
    assert!(
        !html.contains("<script") && !html.contains("<title>owned"),
        "{html}"
    );
    assert!(
        html.contains("command-line") || html.contains("command line"),
        "{html}"
    );
    // Whose word it was, whose the volume was, and until when the next machine may come for the other one.
    for words in [
        "open to the next machine</span> until <time",
        "readmitted, no report yet</span> until <time",
        "alice",
        "it belonged to endorsement key",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    for (name, scheme) in [("light", "1"), ("dark", "0")] {
        let file = out().join(format!("page-{name}.png"));
        chromium(&[
            &format!("--blink-settings=preferredColorScheme={scheme}"),
            "--window-size=1280,2300",
            &format!("--screenshot={}", file.display()),
            &format!("http://{at}/"),
        ]);
        let picture = fs::read(&file).unwrap();
        assert!(
            picture.starts_with(b"\x89PNG") && picture.len() > 20_000,
            "{}",
            file.display()
        );
        println!("{}", file.display());
    }
    let narrow = out().join("page-narrow.png");
    chromium(&[
        "--window-size=500,2300",
        &format!("--screenshot={}", narrow.display()),
        &format!("http://{at}/"),
    ]);
    println!("{}", narrow.display());
}

/// Where the pictures go.
fn out() -> PathBuf {
    let directory =
        std::env::var_os("NIGHTLATCH_PICTURES").map_or_else(std::env::temp_dir, PathBuf::from);
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Images are known by their command line.
fn policy(admin: &Admin) {
    let path = admin.daemon.directory.join("policy.toml");
    let text = fs::read_to_string(&path).unwrap();
    let (enrolled, _) = text.split_once("[[image]]").unwrap();
    let zero = "00".repeat(32);
    let rules = format!(
        "{enrolled}[[image]]\nname = \"node-42\"\npcrs = {{ 0 = [\"{zero}\"] }}\ncommand-line = [{USUAL:?}]\n\
         [[role]]\nname = \"node\"\nvolumes = [\"state\"]\nimages = [\"node-42\"]\n"
    );
    fs::write(&path, rules).unwrap();
    admin.daemon.signal("HUP");
}

/// How a boot ends, and the epoch of its volume.
#[derive(Clone, Copy)]
enum Ends {
    Denied,
    /// With the volume's key, and before it was used.
    Admitted(u64),
    /// With a report of the volume.
    Opens(u64),
}

impl Ends {
    fn epoch(self) -> Option<u64> {
        match self {
            Self::Denied => None,
            Self::Admitted(epoch) | Self::Opens(epoch) => Some(epoch),
        }
    }
}

/// A boot of a machine that has this volume, with this command line.
fn boot(admin: &Admin, number: u32, uuid: &str, command_line: &str, ends: Ends) {
    let caller = &admin.daemon.caller;
    let event = utf16(command_line);
    let mut machine = Machine::new(number);
    machine.pcrs[11] = [0; 32];
    machine.pcrs[12] = Sha256::digest([[0; 32], Sha256::digest(&event).into()].concat()).into();
    let volumes = [volume(uuid, Role::State, ends.epoch())];
    let expected = if ends.epoch().is_some() { 200 } else { 401 };
    let deadline = Instant::now() + patience();
    let (heard, draft) = loop {
        let (heard, draft) = caller.attest(&machine, &volumes, |draft| {
            draft.claims.firmware_log = Some(Bytes(log(&event)));
        });
        if heard.status == expected {
            break (heard, draft);
        }
        // The policy is about to be in force.
        assert!(Instant::now() < deadline, "{}", heard.status);
    };
    if ends.epoch().is_none() {
        return;
    }
    let session = heard.session();
    let path = format!("nightlatch/volume-key/{uuid}");
    caller.resource(&session, &draft, &path);
    if let Ends::Opens(epoch) = ends {
        let record = VolumeRecord {
            key_id: Some("ab".repeat(32)),
            epoch,
            nonce: None,
        };
        let path = record_path(uuid);
        assert_eq!(caller.post(&path, Some(&session), &record).status, 200);
    }
}

/// A firmware event log with one event: systemd-stub measures the command line it was handed into PCR 12 (TCG PC Client
/// Platform Firmware Profile, section 10; `EV_IPL`).
fn log(event: &[u8]) -> Vec<u8> {
    let sha256 = 0x000b_u16.to_le_bytes();
    let head = [
        &b"Spec ID Event03\0"[..],
        &[0; 4],
        &[0, 2, 0, 2],
        &1_u32.to_le_bytes(),
        &sha256,
        &32_u16.to_le_bytes(),
        &[0],
    ]
    .concat();
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_le_bytes();
    [
        &0_u32.to_le_bytes()[..],
        &3_u32.to_le_bytes(),
        &[0; 20],
        &length(&head),
        &head,
        &12_u32.to_le_bytes(),
        &0x0d_u32.to_le_bytes(),
        &1_u32.to_le_bytes(),
        &sha256,
        &Sha256::digest(event),
        &length(event),
        event,
    ]
    .concat()
}

fn utf16(text: &str) -> Vec<u8> {
    let units = text.encode_utf16().chain([0]);
    units.flat_map(u16::to_le_bytes).collect()
}

/// The page with its head, as an operator gets it.
fn fetch(admin: &Admin) -> Vec<u8> {
    let file = |name: &str| admin.daemon.directory.join(name).display().to_string();
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--include",
            "--http1.1",
        ])
        .args(["--cert", &file("alice.pem"), "--key", &file("alice.key")])
        .args(["--cacert", &file("ours.pem")])
        .arg(format!("https://localhost:{}/", admin.at.port()))
        .output()
        .expect("curl is not installed");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).to_lowercase();
    assert!(text.contains("content-security-policy: default-src 'none'; style-src 'sha256-"));
    output.stdout
}

/// Answers everything with these bytes.
fn serve(page: Vec<u8>) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    thread::spawn(move || {
        for mut client in socket.incoming().flatten() {
            let mut request = [0; 4096];
            // A browser opens connections it does not use.
            if client.read(&mut request).is_ok_and(|count| count > 0) {
                client.write_all(&page).unwrap_or_default();
            }
        }
    });
    at
}

fn chromium(arguments: &[&str]) -> String {
    let profile = std::env::temp_dir().join(format!("nightlatch-browser-{}", std::process::id()));
    let output = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
        ])
        .args([
            "--disable-background-networking",
            "--no-first-run",
            "--timeout=20000",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .output()
        .expect("chromium is not installed: tests/page/run installs it");
    assert!(output.status.success(), "{output:?}");
    if profile.exists() {
        fs::remove_dir_all(&profile).unwrap();
    }
    String::from_utf8_lossy(&output.stdout).into_owned()
}
