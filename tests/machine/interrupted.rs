// SPDX-License-Identifier: Apache-2.0
//! A first boot that is interrupted starts again, and only that.

use nightlatch::header;
use nightlatch::volume::{self, Found, How, ProvisionHooks};

use crate::disk::{self, Disk, close, config, new, secret, volume};

const MARKER_OFFSET: u64 = header::MARKER_OFFSET as u64;

#[test]
fn a_first_boot_interrupted_before_the_header_is_committed_starts_again() {
    let disk = Disk::virtio("blank4g");
    let config = config(&disk, &[]);
    let volume = volume(&config);
    // Marker and dm-integrity superblock are on the disk, the header is not.
    drop(
        new(volume)
            .format(volume, secret(), None, ProvisionHooks::none(0))
            .unwrap(),
    );
    assert_ne!(disk.read(16 << 20, 8), [0; 8]);
    assert_eq!(disk.read(0, 4096), [0; 4096]);

    assert_eq!(disk::format(volume).keyed().how, How::Formatted);
    close();
    assert!(disk::key(volume).is_ok());
}

#[test]
fn the_volume_exists_from_the_instant_the_marker_is_cleared() {
    let disk = Disk::virtio("blank4g");
    let config = config(&disk, &[]);
    let volume = volume(&config);
    drop(
        new(volume)
            .format(volume, secret(), None, ProvisionHooks::none(0))
            .unwrap(),
    );
    let marker = disk.read(MARKER_OFFSET, 4096);
    disk::format(volume);
    close();
    assert!(matches!(volume::examine(volume), Ok(Found::Existing(_))));

    // The instant before: all is written and the marker still there.
    disk.write(MARKER_OFFSET, &marker);
    assert!(matches!(volume::examine(volume), Ok(Found::New(_))));

    // A marker with a byte changed is not a marker.
    let mut forged = marker;
    forged[30] ^= 1;
    disk.write(MARKER_OFFSET, &forged);
    assert!(volume::examine(volume).is_err());

    // The instant after.
    disk.write(MARKER_OFFSET, &[0; 4096]);
    assert!(disk::key(volume).is_ok());
}

#[test]
fn a_marker_does_not_overrule_a_configuration_that_forbids_formatting() {
    let disk = Disk::virtio("blank4g");
    let may = config(&disk, &[]);
    drop(
        new(volume(&may))
            .format(volume(&may), secret(), None, ProvisionHooks::none(0))
            .unwrap(),
    );
    let never = config(&disk, &["format = \"never\"", "sources = [\"tpm\"]"]);
    let error = volume::examine(volume(&never)).unwrap_err();
    assert_eq!(error.exit().code(), 77);
    assert!(matches!(volume::examine(volume(&may)), Ok(Found::New(_))));
}

#[test]
fn a_marker_left_on_a_disk_that_serves_something_else_now_does_not_cost_its_data() {
    let disk = Disk::virtio("blank4g");
    let config = config(&disk, &[]);
    drop(
        new(volume(&config))
            .format(volume(&config), secret(), None, ProvisionHooks::none(0))
            .unwrap(),
    );
    assert!(matches!(
        volume::examine(volume(&config)),
        Ok(Found::New(_))
    ));

    disk.partition("gpt");
    let error = volume::examine(volume(&config)).unwrap_err();
    assert_eq!(error.exit().code(), 77, "{error}");

    disk::run("blkdiscard", &["-f", disk.as_str()], b"");
    drop(
        new(volume(&config))
            .format(volume(&config), secret(), None, ProvisionHooks::none(0))
            .unwrap(),
    );
    let as_root = disk::config(
        &disk,
        &["role = \"root\"", "mode = \"plain\"", "mount none"],
    );
    let error = volume::examine(volume(&as_root)).unwrap_err();
    assert_eq!(error.exit().code(), 77, "{error}");
}
