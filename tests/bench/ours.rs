// SPDX-License-Identifier: Apache-2.0
//! The boot's steps with TPM and volumes, as `nightlatch::boot` takes them, without systemd to hand over to.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

use nightlatch::config::{Config, Volume};
use nightlatch::measure::{self, EventLog};
use nightlatch::tpm::{Policy, Tpm};
use nightlatch::volume::{self, Found, Keyed, Witness};
use nightlatch::{boot, key};
use nix::mount::{MsFlags, mount};
use serde_json::{Map, Value, json};

/// How long each step took; with several volumes, how long the slowest took.
#[derive(Default)]
struct Steps(Mutex<Map<String, Value>>);

impl Steps {
    fn take<T>(&self, name: &str, work: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let value = work();
        let milliseconds = started.elapsed().as_secs_f64() * 1e3;
        let mut steps = self.0.lock().unwrap();
        let slowest = steps.get(name).and_then(Value::as_f64).unwrap_or(0.0);
        steps.insert(name.into(), slowest.max(milliseconds).into());
        value
    }

    fn report(self, header_copies_bytes: u64) -> Value {
        json!({
            "steps": self.0.into_inner().unwrap(),
            "peak_bytes": peak_bytes(),
            "header_copies_bytes": header_copies_bytes,
        })
    }
}

/// Formats the volumes on blank devices and mounts each on `/mnt/NAME`.
pub(crate) fn provision(path: &Path) -> Value {
    boot::protect_memory();
    let steps = Steps::default();
    let config = Config::load_file(path).unwrap();
    let tpm = steps.take("TPM", || ready_tpm(&config));
    let keyed = key_all(&config, &tpm, &steps);
    let copies = header_copies_bytes();
    steps.take("open", || open_all(keyed));
    steps.take("mount", || {
        for volume in config.volumes() {
            let target = Path::new("/mnt").join(volume.name.as_str());
            fs::create_dir_all(&target).unwrap();
            let mapping = volume.name.mapping();
            let kind = Some(volume.file_system.name());
            let source = Some(Path::new(&mapping));
            mount(source, &target, kind, MsFlags::empty(), None::<&str>).unwrap();
        }
    });
    steps.report(copies)
}

/// Opens volumes that exist, with everything the boot does to the TPM, the fence included.
pub(crate) fn unlock(path: &Path) -> Value {
    boot::protect_memory();
    let steps = Steps::default();
    let config = Config::load_file(path).unwrap();
    let tpm = steps.take("TPM", || ready_tpm(&config));
    let log = EventLog::open(Path::new("/"));
    let keyed = key_all(&config, &tpm, &steps);
    let copies = header_copies_bytes();
    steps.take("measure", || {
        let (_, first) = &keyed[0];
        let id = key::stand_alone_cluster_id(first.secret(), &first.salt.unwrap()).unwrap();
        let pcr = config.measure.cluster_pcr;
        let mut tpm = tpm.lock().unwrap();
        measure::cluster_id(&log, pcr, &id, |id| tpm.event(pcr, id)).unwrap();
    });
    steps.take("open", || open_all(keyed));
    steps.take("fence", || {
        let mut tpm = tpm.lock().unwrap();
        let pcr = config.tpm.fence_pcr;
        measure::fence(&log, pcr, |event| tpm.event(pcr, event)).unwrap();
        // The boot record has both.
        tpm.read(pcr).unwrap();
        tpm.read(config.measure.cluster_pcr).unwrap();
    });
    steps.report(copies)
}

fn ready_tpm(config: &Config) -> Mutex<Tpm> {
    let mut tpm = Tpm::open(&config.tpm.tcti).unwrap();
    tpm.require_zero(config.measure.cluster_pcr).unwrap();
    tpm.banks().unwrap();
    Mutex::new(tpm)
}

fn key_all<'a>(config: &'a Config, tpm: &Mutex<Tpm>, steps: &Steps) -> Vec<(&'a Volume, Keyed)> {
    let policy = Policy {
        pcrs: config.tpm.pcrs,
        bank: config.tpm.bank.into(),
    };
    let key = |volume: &Volume, found| match found {
        Found::New(new) => new.prepare(
            volume,
            &config.tpm,
            |secret| tpm.lock().unwrap().seal(secret, policy),
            Witness::none(0),
        ),
        Found::Existing(existing) => existing.unlock(volume, &config.tpm, |sealed| {
            tpm.lock().unwrap().unseal(sealed, policy)
        }),
    };
    let volumes = config.volumes().map(|volume| (volume, ())).collect();
    at_once(volumes, |volume, ()| {
        let found = steps.take("examine", || volume::examine(volume).unwrap());
        steps.take("key", || key(volume, found).unwrap())
    })
}

fn open_all(keyed: Vec<(&Volume, Keyed)>) {
    at_once(keyed, |volume, keyed| volume::open(volume, keyed).unwrap());
}

/// A thread for each volume, as in the boot.
fn at_once<'a, I: Send, T: Send>(
    volumes: Vec<(&'a Volume, I)>,
    work: impl Fn(&'a Volume, I) -> T + Sync,
) -> Vec<(&'a Volume, T)> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = volumes
            .into_iter()
            .map(|(volume, input)| (volume, scope.spawn(move || work(volume, input))))
            .collect();
        let join = |(volume, thread): (_, thread::ScopedJoinHandle<'_, T>)| {
            (volume, thread.join().unwrap())
        };
        threads.into_iter().map(join).collect()
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
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let target = fs::read_link(path).unwrap_or_default();
            target.to_string_lossy().starts_with("/memfd:luks2-header")
        })
        .map(|path| fs::metadata(path).unwrap().blocks() * 512)
        .sum()
}
