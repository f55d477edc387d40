// SPDX-License-Identifier: Apache-2.0
//! The boot itself, without systemd to hand over to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nightlatch::boot;
use nightlatch::config::{Config, Profile};
use nightlatch::header::{Area, Content, Expect};
use nightlatch::key::{Secret, volume_key_id};
use nightlatch::memory;
use nightlatch::status::Recorder;
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

const MAC_RUNS: usize = 101;
/// Of AES-XTS with 256 bits and of HMAC-SHA256.
const VOLUME_KEY_LEN: usize = 96;
/// As long as any.
const UUID: &str = "00000000-0000-4000-8000-000000000000";

/// Formats the volumes on blank devices and mounts each on `/mnt/NAME`.
pub(crate) fn provision(path: &Path) -> Value {
    boot_with(path, |config| {
        for volume in config.volumes() {
            let target = Path::new("/mnt").join(volume.name.as_str());
            fs::create_dir_all(&target).unwrap();
            let mapping = volume.name.mapping();
            let kind = Some(volume.file_system.as_str());
            let source = Some(Path::new(&mapping));
            mount(source, &target, kind, MsFlags::empty(), None::<&str>).unwrap();
        }
    })
}

/// Opens volumes that exist, with everything the boot does to the TPM, the fence included.
pub(crate) fn unlock(path: &Path) -> Value {
    boot_with(path, |_| ())
}

/// How long it takes to find out whether a volume key made this header, in microseconds: the median of many. The key is
/// another one, which takes as long except for the key's id, so that is computed as well.
pub(crate) fn mac(device: &Path) -> f64 {
    let mut file = File::open(device).unwrap();
    let len = file.seek(SeekFrom::End(0)).unwrap();
    let (area, probe) = Area::read(&file, len).unwrap();
    let Content::Luks(copies) = area.classify(probe).unwrap() else {
        panic!("expected a volume");
    };
    let candidates = copies.check(&area, Profile::Nightlatch1, &Expect::default());
    let header = candidates.unwrap().remove(0);
    let key = Secret::new(vec![0x5a; VOLUME_KEY_LEN]);
    let mut times: Vec<f64> = (0..MAC_RUNS)
        .map(|_| {
            let started = Instant::now();
            header.authenticate(&key).unwrap_err();
            volume_key_id(&key, UUID).unwrap();
            started.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[MAC_RUNS / 2]
}

/// A boot, all but the hand-over to systemd. With several volumes a step takes what the slowest of them takes.
fn boot_with(path: &Path, hand_over: impl FnOnce(&Config)) -> Value {
    memory::protect();
    let config = Config::load_file(path).unwrap();
    let record = Recorder::start();
    let done = AtomicBool::new(false);
    let (result, header_copies_bytes) = thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = header_copies_bytes().max(most);
                // wait: part of the test, which takes samples
                thread::sleep(Duration::from_millis(20));
            }
            most
        });
        let result = boot::with_volumes_open(Path::new("/"), &config, &record, |_, _| {
            hand_over(&config);
            Ok(())
        });
        done.store(true, Ordering::Relaxed);
        (result, sampler.join().unwrap())
    });
    result.as_ref().unwrap();
    let mut steps: BTreeMap<String, f64> = BTreeMap::new();
    for step in record.finish(&result).steps {
        let milliseconds = Duration::from_micros(step.duration_us()).as_secs_f64() * 1e3;
        let slowest = steps.entry(step.name).or_default();
        *slowest = slowest.max(milliseconds);
    }
    json!({
        "steps": steps,
        "peak_bytes": peak_bytes(),
        "header_copies_bytes": header_copies_bytes,
    })
}

/// The most this process has had in memory (`VmHWM` of `proc_pid_status(5)`).
fn peak_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib << 10
}

/// What the header copies take, which are files in memory and no part of the above.
fn header_copies_bytes() -> u64 {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let target = fs::read_link(path).unwrap_or_default();
            target.to_string_lossy().starts_with("/memfd:luks2-header")
        })
        // One may be closed while they are looked at.
        .filter_map(|path| Some(fs::metadata(path).ok()?.blocks() * 512))
        .sum()
}
