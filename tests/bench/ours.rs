// SPDX-License-Identifier: Apache-2.0
//! The boot itself, without systemd to hand over to.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nightlatch::boot;
use nightlatch::config::Config;
use nightlatch::memory;
use nightlatch::status::Recorder;
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

/// Formats the volumes on blank devices and mounts each on `/mnt/NAME`.
pub(crate) fn provision(path: &Path) -> Value {
    boot_with(path, |config| {
        for volume in config.volumes() {
            let target = Path::new("/mnt").join(volume.name.as_str());
            fs::create_dir_all(&target).unwrap();
            let mapping = volume.name.mapping();
            let kind = Some(volume.file_system.name());
            let source = Some(Path::new(&mapping));
            mount(source, &target, kind, MsFlags::empty(), None::<&str>).unwrap();
        }
    })
}

/// Opens volumes that exist, with everything the boot does to the TPM, the fence included.
pub(crate) fn unlock(path: &Path) -> Value {
    boot_with(path, |_| ())
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
                thread::sleep(Duration::from_millis(20));
            }
            most
        });
        let result = boot::with_volumes_open(Path::new("/"), &config, &record, || {
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
