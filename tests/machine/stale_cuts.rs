// SPDX-License-Identifier: Apache-2.0
//! The power goes at every instant of a boot that carries a node over to another image: at each flush and each forced write of the
//! disk, and at each state that the TPM keeps, as `crate::log_writes` has it. Whichever image boots next, the volume opens, and the
//! other one opens it after that.

use nightlatch::config::{Config, Source};
use nightlatch::volume::How;
use serde_json::Value;

use crate::boots;
use crate::disk::{self, BOOT, Disk};
use crate::key_service::{ENDORSEMENT_KEY, Mock, Node, service, table};
use crate::log_writes::log::{Entry, FLUSH, FUA, MARK, entries};
use crate::log_writes::{DISK_MIB, Logged, mark};
use crate::stale::{SOURCES, image, indices};
use crate::tpm_private::Private;
use crate::tpm_watched::Watched;

fn config(service: &Mock, disk: &Disk, port: u16) -> Config {
    let volume = disk::lines(disk, &SOURCES);
    let service = table(service);
    Config::parse(&format!(
        "{BOOT}[tpm]\ntcti = \"swtpm:port={port}\"\n{service}{volume}"
    ))
    .unwrap()
}

/// A boot of the first image, which makes the volume, another one, and one of the second image, all of it in the log.
struct Story {
    log: Vec<u8>,
    states: Vec<Vec<u8>>,
    /// What the service was told before the last boot.
    told: Value,
    path: String,
}

fn record() -> Story {
    let logged = Logged::start();
    let mut tpm = Watched::start(|number| mark(&format!("tpm:{number}")));
    tpm.tool("tpm2_createek", &ENDORSEMENT_KEY);
    let service = service();
    let config = config(&service, &logged.disk, tpm.port());
    let mut path = String::new();
    for number in [1, 1, 2] {
        mark(&format!("image:{number}"));
        tpm.reset_to(&image(number));
        let before = service.requests().len();
        let volume = boots::boot(&config, || {}).unwrap();
        let is_carried = volume.accepted.as_deref() == Some("stale");
        assert_eq!(is_carried, number == 2, "{volume:?}");
        assert!(service.requests().len() > before);
        path = format!("/kbs/v0/nightlatch/volume/{}", volume.uuid);
    }
    let told = service.bodies(&format!("POST {path}"));
    Story {
        log: logged.into_log(),
        states: tpm.into_states(),
        told: told[1].clone(),
        path,
    }
}

/// How many entries are durable, and the TPM's last state, at each instant of the last boot.
fn points(entries: &[Entry<'_>]) -> Vec<(usize, usize)> {
    let (mut state, mut is_last, mut is_new) = (0, false, false);
    let mut points = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        match entry.mark.split_once(':') {
            Some(("image", number)) => is_last = number == "2",
            Some(("tpm", number)) => {
                state = number.parse().unwrap();
                is_new = true;
            }
            _ => {}
        }
        is_new |= !entry.data.is_empty();
        if is_last && is_new && entry.flags & (FLUSH | FUA | MARK) != 0 {
            is_new = false;
            points.push((index + 1, state));
        }
    }
    points
}

/// What is there when the power goes at an instant of the last boot.
pub(crate) struct Point<'a> {
    /// Which of them it is.
    pub(crate) number: usize,
    /// How many entries of the log are durable, and the TPM's last state.
    pub(crate) durable: usize,
    pub(crate) state: usize,
    /// The disk as it is then.
    pub(crate) left: &'a Disk,
}

/// Plays the log of all writes back to those of its points that are `chosen` by number, of so many, and has `then` look at each.
pub(crate) fn each_point(
    log: &[u8],
    states: &[Vec<u8>],
    chosen: impl Fn(usize, usize) -> bool,
    mut then: impl FnMut(Point<'_>),
) {
    let entries = entries(log);
    let points = points(&entries);
    let count = points.len();
    println!("{count} points, {} states of the TPM", states.len());
    assert!(count > 8, "{points:?}");
    let left = Disk::in_memory(DISK_MIB);
    let mut written = 0;
    for (number, (durable, state)) in points.into_iter().enumerate() {
        for entry in &entries[written..durable] {
            left.write_behind(entry.at, entry.data);
        }
        written = durable;
        if chosen(number, count) {
            left.forget_reads();
            then(Point {
                number,
                durable,
                state,
                left: &left,
            });
        }
    }
}

/// The power goes at the points that are `chosen`: how often the next boot was not carried over, and was.
fn crash(story: &Story, chosen: impl Fn(usize, usize) -> bool) -> [u32; 2] {
    let mut node = Node {
        disk: Disk::in_memory(DISK_MIB),
        ..Node::new(&SOURCES)
    };
    let mut carried = [0; 2];
    each_point(&story.log, &story.states, chosen, |point| {
        let Point { durable, state, .. } = point;
        node.disk.load_from(point.left);
        node.service.tell(&story.path, story.told.clone());
        node.tpm = Private::start();
        node.tpm.restore(&story.states[state]);
        // Either image is the next one at each second point; the other one follows, and then the same again.
        let order = [[2, 1, 1], [1, 2, 2]][point.number % 2];
        for (which, image_now) in order.into_iter().enumerate() {
            node.firmware = image(image_now);
            let status = node.boot().unwrap_or_else(|error| {
                panic!("entry {durable}, state {state}, {order:?}, boot {which}: {error}")
            });
            let volume = &status.volumes[0];
            assert_eq!(
                (volume.how, volume.source),
                (How::Unlocked, Source::Service)
            );
            let is_carried = volume.accepted.is_some();
            assert!(!is_carried || which != 2, "the same image again");
            assert!(is_carried || which != 1, "the other image finds no record");
            carried[usize::from(is_carried)] += u32::from(which == 0);
            assert_eq!(indices(&node).len(), 2);
        }
    });
    println!("not carried over and carried over by the next boot: {carried:?}");
    carried
}

#[test]
fn a_crash_in_the_middle_leaves_a_node_that_both_images_go_on_with() {
    let carried = crash(&record(), |number, count| number == count / 2);
    assert_eq!(carried.iter().sum::<u32>(), 1);
}

#[test]
fn whichever_image_boots_after_a_crash_the_node_goes_on_with_either() {
    let carried = crash(&record(), |_, _| true);
    assert!(carried.iter().all(|count| *count > 0), "{carried:?}");
}
