// SPDX-License-Identifier: Apache-2.0
//! A data disk that is taken away for some boots, and given back: whole boots of the real program with two volumes, of which one
//! need not be there.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use nightlatch::boot::with_volumes_open;
use nightlatch::config::Config;
use nightlatch::error::{Error, Exit};
use nightlatch::status::{Recorder, Status};
use nightlatch::volume::{self, How};

use crate::disk::{self, BOOT, Disk, run};
use crate::tpm_private::Private;
use crate::tpm_watched::Watched;

const DISK_MIB: u64 = 160;
const MOUNT: &str = "/tmp/away";
/// Both copies of a header's metadata, which is what a boot writes of a volume before it can be written to.
const HEADERS_LEN: usize = 32 << 10;

/// What becomes of the data volume in a boot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Data {
    Attached,
    /// Its disk is not.
    Missing,
    /// The image does not have it.
    Unlisted,
}

struct Disks {
    own: Disk,
    data: Disk,
}

impl Disks {
    fn new() -> Self {
        let [own, data] = [(); 2].map(|()| Disk::in_memory(DISK_MIB));
        Self { own, data }
    }

    fn config(&self, data: Data, port: u16) -> Config {
        let device = match data {
            Data::Attached => self.data.as_str(),
            Data::Missing | Data::Unlisted => "/dev/disk/by-id/virtio-none",
        };
        let lines = format!(
            "[[volume]]\nname = \"data\"\ndevice = \"{device}\"\nrole = \"state\"\nmount = \"/srv/data\"\nrequired = false\n\
             wait-s = 1\nformat = \"if-blank\"\nkdf = \"pbkdf2\"\nsources = [\"tpm\", \"generate\"]\n"
        );
        let lines = if data == Data::Unlisted { "" } else { &lines };
        let own = disk::lines(&self.own, &[]);
        Config::parse(&format!(
            "{BOOT}[tpm]\ntcti = \"swtpm:port={port}\"\n{own}{lines}"
        ))
        .unwrap()
    }

    /// One boot; `work` while the volumes are open that there are.
    fn boot(&self, data: Data, port: u16, work: impl FnOnce(&[&str])) -> Result<Status, Error> {
        let config = self.config(data, port);
        let record = Recorder::start();
        let result = with_volumes_open(Path::new("/"), &config, &record, |open, _| {
            let names: Vec<&str> = open.iter().map(|volume| volume.name.as_str()).collect();
            work(&names);
            Ok(())
        });
        for volume in config.volumes() {
            volume::close(volume).unwrap();
        }
        let status = record.finish(&result);
        result.map(|()| status)
    }
}

/// What is in the volume's file, which is told the next number; 0 in a new one.
fn number(open: &[&str]) -> u32 {
    assert_eq!(open, ["case", "data"]);
    fs::create_dir_all(MOUNT).unwrap();
    run("mount", &["/dev/mapper/data", MOUNT], b"");
    let file = Path::new(MOUNT).join("number");
    let number = fs::read_to_string(&file).map_or(0, |text| text.parse().unwrap());
    fs::write(&file, (number + 1).to_string()).unwrap();
    run("umount", &[MOUNT], b"");
    number
}

struct Node {
    disks: Disks,
    tpm: Private,
}

impl Node {
    /// After two boots with both volumes.
    fn new() -> Self {
        let mut node = Self {
            disks: Disks::new(),
            tpm: Private::start(),
        };
        assert_eq!(node.opens(), 0);
        assert_eq!(node.opens(), 1);
        node
    }

    fn boot(&mut self, data: Data, work: impl FnOnce(&[&str])) -> Status {
        self.tpm.reset();
        let port = self.tpm.port();
        self.disks.boot(data, port, work).unwrap()
    }

    /// A boot that has both: the number in the data volume.
    fn opens(&mut self) -> u32 {
        let mut found = None;
        let status = self.boot(Data::Attached, |open| found = Some(number(open)));
        assert!(status.away.is_empty(), "{:?}", status.away);
        assert_eq!(status.volumes.len(), 2);
        found.unwrap()
    }

    /// A boot that goes on without it, which succeeds and says why.
    fn goes_on(&mut self, data: Data) -> (Exit, String) {
        let log = || fs::read_to_string("/run/log/systemd/tpm2-measure.log").unwrap();
        let before = log().len();
        let status = self.boot(data, |open| assert_eq!(open, ["case"]));
        assert_eq!((status.result.as_str(), status.exit), ("done", 0));
        assert_eq!(status.volumes[0].how, How::Unlocked);
        assert!(log().split_off(before).contains("nightlatch:away:data"));
        let [away] = &status.away[..] else {
            panic!("{:?}", status.away);
        };
        assert_eq!(away.name, "data");
        (Exit::from_code(away.exit).unwrap(), away.error.clone())
    }
}

#[test]
fn a_data_disk_that_was_away_for_three_boots_comes_back_and_no_other_does() {
    let mut node = Node::new();
    let older = node.disks.data.save();
    assert_eq!(node.opens(), 2);
    let newest = node.disks.data.save();
    for _ in 0..3 {
        let (exit, said) = node.goes_on(Data::Missing);
        assert_eq!(exit, Exit::Unavailable);
        assert!(said.contains("the device has not appeared"), "{said}");
    }

    // The copy of one opening before, and a blank disk, in its place; neither is written to.
    node.disks.data.load(&older);
    let before = node.disks.data.contents();
    let (exit, said) = node.goes_on(Data::Attached);
    assert_eq!(exit, Exit::Refused);
    assert!(said.contains("rule G26"), "{said}");
    assert!(node.disks.data.contents() == before);
    run("blkdiscard", &["--zeroout", node.disks.data.as_str()], b"");
    let (exit, said) = node.goes_on(Data::Attached);
    assert_eq!(exit, Exit::Refused);
    assert!(said.contains("rule F23: the device is blank"), "{said}");
    assert!(disk::is_blank(&node.disks.data.contents()));

    node.disks.data.load(&newest);
    assert_eq!(node.opens(), 3);
    // It is counted again: what came back is an old one now.
    assert_eq!(node.opens(), 4);
    node.disks.data.load(&newest);
    assert_eq!(node.goes_on(Data::Attached).0, Exit::Refused);
}

#[test]
fn an_image_between_that_does_not_have_a_volume_does_not_cost_it() {
    let mut node = Node::new();
    let older = node.disks.data.save();
    assert_eq!(node.opens(), 2);
    let newest = node.disks.data.save();
    for _ in 0..2 {
        let status = node.boot(Data::Unlisted, |open| assert_eq!(open, ["case"]));
        assert!(status.away.is_empty());
    }
    node.disks.data.load(&older);
    assert_eq!(node.goes_on(Data::Attached).0, Exit::Refused);
    node.disks.data.load(&newest);
    assert_eq!(node.opens(), 3);
}

/// What is there when the power goes: the TPM's memory, and what has been written of both headers.
struct Cut {
    tpm: Vec<u8>,
    headers: [Vec<u8>; 2],
}

/// The power goes at each state that the TPM keeps, in the first boot without the volume and in the one that has it again.
#[test]
fn a_volume_that_is_away_opens_wherever_the_power_went_as_it_was_taken_and_came_back() {
    let disks = Disks::new();
    let paths = [&disks.own, &disks.data].map(|disk| disk.as_str().to_owned());
    let headers: Arc<Mutex<Vec<[Vec<u8>; 2]>>> = Arc::default();
    let seen = Arc::clone(&headers);
    let mut tpm = Watched::start(move |_| {
        let header = |path: &String| Disk::at(path).read(0, HEADERS_LEN);
        seen.lock()
            .unwrap()
            .push([&paths[0], &paths[1]].map(header));
    });
    let mut begin = Vec::new();
    let mut before = Vec::new();
    for data in [
        Data::Attached,
        Data::Attached,
        Data::Missing,
        Data::Missing,
        Data::Attached,
    ] {
        tpm.reset();
        begin.push(headers.lock().unwrap().len());
        before.push([disks.own.save(), disks.data.save()]);
        let mut found = None;
        let work = |open: &[&str]| {
            if data == Data::Attached {
                found = Some(number(open));
            }
        };
        disks.boot(data, tpm.port(), work).unwrap();
    }
    begin.push(headers.lock().unwrap().len());
    let states = tpm.into_states();
    let headers = headers.lock().unwrap().clone();
    assert_eq!(states.len(), headers.len());
    let mut node = Node {
        disks,
        tpm: Private::start(),
    };
    let mut cuts = 0;
    for boot in [2, 4] {
        for at in begin[boot]..begin[boot + 1] {
            let cut = Cut {
                tpm: states[at].clone(),
                headers: headers[at].clone(),
            };
            cuts += 1;
            node.tpm.restore(&cut.tpm);
            let left = before[boot].iter().zip(&cut.headers);
            let disks = [&node.disks.own, &node.disks.data];
            for (disk, (saved, header)) in disks.into_iter().zip(left) {
                disk.load(saved);
                disk.write(0, header);
            }
            // Every other time it is away in the next boot still.
            let is_still_away = cuts % 2 == 0;
            if is_still_away {
                node.goes_on(Data::Missing);
            }
            println!("boot {boot}, state {at}, still away: {is_still_away}");
            assert_eq!(node.opens(), 2);
        }
    }
    assert!(cuts > 6, "only {cuts} cuts");
}
