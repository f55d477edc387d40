// SPDX-License-Identifier: Apache-2.0
//! A volume and a copy of it in one boot. Volumes of ours have their names in their headers, so this takes others.

use std::fs;
use std::path::Path;

use nightlatch::boot::with_volumes_open;
use nightlatch::config::Config;
use nightlatch::error::{Error, Exit};
use nightlatch::status::Recorder;
use nightlatch::volume::{self, How};

use crate::disk::{self, BOOT, Disk, SECRET, close, run};
use crate::stock::luks_format;
use crate::tpm_private::Private;

const DISK_MIB: u64 = 136;

/// One boot of a node with a volume of its own and these; how each was opened.
fn boot(tpm: &mut Private, own: &Disk, others: &[(&str, &Disk)]) -> Result<Vec<How>, Error> {
    tpm.reset();
    let others = others.iter().map(|(name, disk)| {
        let device = disk.as_str();
        format!(
            "[[volume]]\nname = \"{name}\"\ndevice = \"{device}\"\nrole = \"state\"\nmount = \"/srv/{name}\"\n\
             profile = \"luks2-strict\"\nformat = \"never\"\nsources = [\"tpm\"]\n"
        )
    });
    let volumes: String = [disk::lines(own, &[])].into_iter().chain(others).collect();
    let port = tpm.port();
    let config = format!("{BOOT}[tpm]\ntcti = \"swtpm:port={port}\"\n{volumes}");
    let config = Config::parse(&config).unwrap();
    let record = Recorder::start();
    let result = with_volumes_open(Path::new("/"), &config, &record, |_, _| Ok(()));
    let status = record.finish(&result);
    for volume in config.volumes() {
        let mapping = volume.name.mapping();
        assert_eq!(Path::new(&mapping).exists(), result.is_ok(), "{mapping}");
        volume::close(volume).unwrap();
    }
    result?;
    Ok(status.volumes.iter().map(|volume| volume.how).collect())
}

#[test]
fn a_volume_and_its_copy_are_not_opened_in_one_boot_and_each_alone_is() {
    let mut tpm = Private::start();
    let [own, this, copy] = [(); 3].map(|()| Disk::in_memory(DISK_MIB));
    luks_format(&this, &["--integrity=hmac-sha256", "--integrity-no-wipe"]);
    fs::write("/tmp/key", SECRET).unwrap();
    let device = format!("--tpm2-device=swtpm:host=127.0.0.1,port={}", tpm.port());
    let pcrs = "--tpm2-pcrs=4:sha256+7:sha256+11:sha256+12:sha256+13:sha256";
    let enroll = ["--unlock-key-file=/tmp/key", pcrs, &device, this.as_str()];
    run("systemd-cryptenroll", &enroll, b"");
    copy.load_from(&this);

    // The controls: nothing is wrong with either.
    let alone = boot(&mut tpm, &own, &[("one", &this)]).unwrap();
    assert_eq!(alone, [How::Formatted, How::Unlocked]);
    let alone = boot(&mut tpm, &own, &[("one", &copy)]).unwrap();
    assert_eq!(alone, [How::Unlocked, How::Unlocked]);

    close();
    let before = [&own, &this, &copy].map(Disk::contents);
    let error = boot(&mut tpm, &own, &[("one", &this), ("two", &copy)]).unwrap_err();
    assert_eq!(error.exit(), Exit::Refused);
    let said = error.to_string();
    assert!(
        said.ends_with("volume two has the UUID of volume one: one of them is a copy"),
        "{said}"
    );
    let after = [&own, &this, &copy].map(Disk::contents);
    assert!(before == after, "a refused disk was written to");
    let alone = boot(&mut tpm, &own, &[("one", &this)]).unwrap();
    assert_eq!(alone, [How::Unlocked, How::Unlocked]);
}
