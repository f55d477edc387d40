// SPDX-License-Identifier: Apache-2.0
//! The bytes systemd measures, and the log it reads.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::thread;

use super::*;
use crate::error::Error;

const BANKS: [Bank; 2] = [Bank::Sha256, Bank::Sha384];

/// A root directory that is gone after the test.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nightlatch-{name}-{}", std::process::id()));
        let proc = path.join("proc/sys/kernel/random");
        fs::create_dir_all(&proc).unwrap();
        fs::write(
            proc.join("boot_id"),
            "01234567-89ab-cdef-0123-456789abcdef\n",
        )
        .unwrap();
        Self(path)
    }

    fn log(&self) -> PathBuf {
        self.0.join("run/log/systemd/tpm2-measure.log")
    }

    fn mode(&self) -> u32 {
        fs::metadata(self.log()).unwrap().permissions().mode() & 0o7777
    }

    fn records(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.log()).unwrap();
        let records = text.split('\u{1e}').skip(1);
        records
            .map(|record| serde_json::from_str(record.strip_suffix('\n').unwrap()).unwrap())
            .collect()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn hashed(data: &[u8]) -> Digests {
    BANKS.map(|bank| (bank, bank.hash(data))).into()
}

fn range(to: u8) -> Secret {
    Secret::new((0..=to).collect())
}

/// The vectors of the issue; the recipe is that of systemd's TEST-70-TPM2.cryptsetup-measure.sh.
#[test]
fn a_volumes_identity_is_measured_with_systemds_exact_bytes() {
    let identity = |key| VolumeIdentity {
        name: "state",
        uuid: "01234567-89ab-4cde-8f01-23456789abcd",
        volume_key: key,
    };
    let key = range(0x3f);
    assert_eq!(
        identity(&key).string(),
        "cryptsetup:state:01234567-89ab-4cde-8f01-23456789abcd"
    );
    let digests = identity(&key).digests(&BANKS);
    assert_eq!(
        hex::encode(&digests[0].1),
        "8a212baf2249a1d8bb818ad7760d6a139da39ce30e6d83f67279a34198cfa0be"
    );
    assert_eq!(
        hex::encode(&digests[1].1),
        "22257e6f8ad23836dbf2d9187b2ceafcae07d08e9600063d4e2982cd00941ebd796bbd8da233f29528751c1a061d78c1"
    );
    assert_eq!(
        hex::encode(Bank::Sha256.extended(&[0; 32], &digests[0].1)),
        "b8fcb927be8cd328e6d5fe49687a0a418a2ddb322c7df2c370ef17bee66922f4"
    );
    assert_eq!(
        hex::encode(&identity(&range(0x5f)).digests(&BANKS)[0].1),
        "8309a4cacc521ea7d3cde4e3dae304d8f2411a8fdfff326f842184068f22b916"
    );
}

#[test]
fn a_name_cannot_end_its_field() {
    assert_eq!(
        escaped("a:b\\c\u{7f}\n~ ä"),
        "a\\x3ab\\x5cc\\x7f\\x0a~ \\xc3\\xa4"
    );
}

#[test]
fn records_have_the_fields_systemd_writes_and_no_others() {
    let root = Root::new("records");
    let log = EventLog::open(&root.0);
    cluster_id(&log, Pcr::SYSTEM_IDENTITY, &[7; 32], |data| {
        Ok(hashed(data))
    })
    .unwrap();
    let key = range(0x5f);
    let identity = VolumeIdentity {
        name: "state",
        uuid: "01234567-89ab-4cde-8f01-23456789abcd",
        volume_key: &key,
    };
    volume_identity(&log, Pcr::SYSTEM_IDENTITY, &identity, &BANKS, |_| Ok(())).unwrap();
    fence(&log, Pcr::KERNEL_CONFIG, |data| Ok(hashed(data))).unwrap();

    let mut records = root.records();
    for record in &mut records {
        let content = record["content"].as_object_mut().unwrap();
        assert!(content.remove("timestamp").unwrap().as_u64().unwrap() > 0);
        assert_eq!(
            content.remove("bootId").unwrap(),
            "0123456789abcdef0123456789abcdef"
        );
    }
    let digests = |digests: &Digests| {
        let entry = |(bank, digest): &(Bank, Vec<u8>)| serde_json::json!({"hashAlg": bank.as_str(), "digest": hex::encode(digest)});
        digests.iter().map(entry).collect::<Vec<_>>()
    };
    assert_eq!(
        records,
        [
            serde_json::json!({
                "pcr": 15, "digests": digests(&hashed(&[7; 32])), "content_type": "systemd",
                "content": {"clusterId": "07".repeat(32), "eventType": "nightlatch-cluster-id"},
            }),
            serde_json::json!({
                "pcr": 15, "digests": digests(&identity.digests(&BANKS)), "content_type": "systemd",
                "content": {
                    "string": "cryptsetup:state:01234567-89ab-4cde-8f01-23456789abcd",
                    "eventType": "volume-key",
                },
            }),
            serde_json::json!({
                "pcr": 12, "digests": digests(&hashed(b"nightlatch:fence")), "content_type": "systemd",
                "content": {"string": "nightlatch:fence", "eventType": "nightlatch-fence"},
            }),
        ]
    );
    assert_eq!(root.mode(), 0o600);
}

#[test]
fn the_log_is_dirty_while_the_tpm_works_and_locked_before_that() {
    let root = Root::new("dirty");
    let log = EventLog::open(&root.0);
    fence(&log, Pcr::KERNEL_CONFIG, |data| {
        assert_eq!(root.mode(), 0o1600);
        let other = fs::File::open(root.log()).unwrap();
        assert!(other.try_lock().is_err());
        Ok(hashed(data))
    })
    .unwrap();
    assert_eq!(root.mode(), 0o600);
    assert!(fs::File::open(root.log()).unwrap().try_lock().is_ok());
}

#[test]
fn a_log_that_somebody_left_dirty_stays_dirty() {
    let root = Root::new("left");
    let log = EventLog::open(&root.0);
    fence(&log, Pcr::KERNEL_CONFIG, |data| Ok(hashed(data))).unwrap();
    fs::set_permissions(root.log(), fs::Permissions::from_mode(0o1600)).unwrap();
    fence(&log, Pcr::KERNEL_CONFIG, |data| Ok(hashed(data))).unwrap();
    assert_eq!(root.records().len(), 2);
    assert_eq!(root.mode(), 0o1600);
}

#[test]
fn a_failed_extend_fails_leaves_no_record_and_leaves_the_log_dirty() {
    let root = Root::new("failed");
    let log = EventLog::open(&root.0);
    let error = fence(&log, Pcr::KERNEL_CONFIG, |_| {
        Err(Error::failure("TPM: no answer"))
    });
    assert_eq!(
        error.unwrap_err().to_string(),
        "raising the fence in PCR 12: TPM: no answer"
    );
    assert_eq!(root.records().len(), 0);
    assert_eq!(root.mode(), 0o1600);
}

#[test]
fn a_log_that_cannot_be_written_does_not_fail_the_extend() {
    let root = Root::new("unwritable");
    fs::create_dir_all(root.log().parent().unwrap()).unwrap();
    let target = root.0.join("elsewhere");
    symlink(&target, root.log()).unwrap();
    let mut extended = false;
    fence(&EventLog::open(&root.0), Pcr::KERNEL_CONFIG, |data| {
        extended = true;
        Ok(hashed(data))
    })
    .unwrap();
    assert!(extended);
    assert!(!target.exists());
}

#[test]
fn records_of_several_threads_do_not_mix() {
    let root = Root::new("threads");
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let log = EventLog::open(&root.0);
                fence(&log, Pcr::KERNEL_CONFIG, |data| Ok(hashed(data))).unwrap();
            });
        }
    });
    assert_eq!(root.records().len(), 8);
    assert_eq!(root.mode(), 0o600);
}

#[test]
fn a_foreign_volume_is_measured_as_a_string_that_pcrlock_can_validate() {
    let root = Root::new("foreign-volume");
    let log = EventLog::open(&root.0);
    let key = range(95);
    let identity = VolumeIdentity {
        name: "a:b",
        uuid: "01234567-89ab-4cde-8f01-23456789abcd",
        volume_key: &key,
    };
    let mut extended = Vec::new();
    foreign_volume(&log, Pcr::KERNEL_CONFIG, &identity, &[0xab, 1], |event| {
        extended = event.to_vec();
        Ok(hashed(event))
    })
    .unwrap();
    let expected = "nightlatch:volume:a\\x3ab:01234567-89ab-4cde-8f01-23456789abcd:ab01";
    assert_eq!(extended, expected.as_bytes());
    let [record] = &root.records()[..] else {
        panic!("expected one record");
    };
    assert_eq!(record["pcr"], 12);
    assert_eq!(record["content"]["string"], expected);
    assert_eq!(
        record["digests"][0]["digest"],
        hex::encode(Bank::Sha256.hash(expected.as_bytes()))
    );
    // A TPM that does not take it stops the boot.
    let failed = foreign_volume(&log, Pcr::KERNEL_CONFIG, &identity, &[1], |_| {
        Err(Error::failure("no"))
    });
    assert!(
        failed
            .unwrap_err()
            .to_string()
            .starts_with("measuring the identity of volume a:b")
    );
}
