// SPDX-License-Identifier: Apache-2.0
//! Disks for the cases, and the programs they are looked at with.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nightlatch::config::{Config, Volume};
use nightlatch::error::Error;
use nightlatch::key::Secret;
use nightlatch::volume::{self, Found, Keyed, New, Opened, ProvisionHooks};

/// The mapping every case uses.
pub(crate) const NAME: &str = "case";

/// What a configuration says of the boot.
pub(crate) const BOOT: &str = "boot.authorities = [\"/tmp/authority.der\"]\n";

/// The secret the cases format with.
pub(crate) const SECRET: [u8; 32] = [0x5a; 32];

/// The next file's.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A block device that starts out blank and is let go of at the end.
pub(crate) struct Disk {
    pub(crate) path: PathBuf,
    loop_file: Option<PathBuf>,
}

impl Disk {
    /// A block device that somebody else made, as it is.
    pub(crate) fn at(path: &str) -> Self {
        Self {
            path: path.into(),
            loop_file: None,
        }
    }

    /// One of the machine's disks, by serial, discarded so that it reads as zeros.
    pub(crate) fn virtio(serial: &str) -> Self {
        close();
        let path = fs::canonicalize(format!("/dev/disk/by-id/virtio-{serial}")).unwrap();
        run("blkdiscard", &["-f", path.to_str().unwrap()], b"");
        Self {
            path,
            loop_file: None,
        }
    }

    /// A loop device over a sparse file in memory.
    pub(crate) fn in_memory(len_mib: u64) -> Self {
        close();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = PathBuf::from(format!("/tmp/disk-{number}"));
        fs::remove_file(&file).unwrap_or_default();
        File::create(&file).unwrap().set_len(len_mib << 20).unwrap();
        let name = run(
            "losetup",
            &["--find", "--show", file.to_str().unwrap()],
            b"",
        );
        Self {
            path: name.trim().into(),
            loop_file: Some(file),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Writes `bytes` at `offset`, as the host would.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) {
        let file = fs::OpenOptions::new().write(true).open(&self.path).unwrap();
        file.write_all_at(bytes, offset).unwrap();
        file.sync_all().unwrap();
    }

    /// Gives it a partition table of a kind sfdisk knows, with one partition.
    pub(crate) fn partition(&self, kind: &str) {
        let label = format!("--label={kind}");
        let quietly = ["-q", "--no-reread", "--no-tell-kernel"];
        run(
            "sfdisk",
            &[&quietly[..], &[&label, self.as_str()]].concat(),
            b",\n",
        );
    }

    pub(crate) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let file = File::open(&self.path).unwrap();
        file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }

    /// Every byte, from the device and not from a cache. Comparing them is quicker here than hashing.
    pub(crate) fn contents(&self) -> Vec<u8> {
        fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
        fs::read(&self.path).unwrap()
    }

    /// Keeps what is on a disk in memory, in a file of its own. Holes stay holes.
    pub(crate) fn save(&self) -> Saved {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let saved = Saved(PathBuf::from(format!("/tmp/saved-{number}")));
        run("blockdev", &["--flushbufs", self.as_str()], b"");
        Self::copy(self.loop_file.as_deref().unwrap(), &saved.0);
        saved
    }

    /// Puts it back.
    pub(crate) fn load(&self, saved: &Saved) {
        Self::copy(&saved.0, self.loop_file.as_deref().unwrap());
        run("blockdev", &["--flushbufs", self.as_str()], b"");
    }

    /// Whether every byte is what it was.
    pub(crate) fn is_as(&self, saved: &Saved) -> bool {
        self.forget_reads();
        let file = self.loop_file.as_deref().unwrap().to_str().unwrap();
        let compared = try_run("cmp", &[file, saved.0.to_str().unwrap()], b"");
        print!("{}", String::from_utf8_lossy(&compared.stdout));
        compared.status.success()
    }

    /// The file behind a loop device, as far as it was written.
    pub(crate) fn backing(&self) -> Vec<u8> {
        self.forget_reads();
        fs::read(self.loop_file.as_deref().unwrap()).unwrap()
    }

    /// Writes `bytes` at `offset` behind its back, for a device that is read after [`Disk::forget_reads`].
    pub(crate) fn write_behind(&self, offset: u64, bytes: &[u8]) {
        let file = self.loop_file.as_deref().unwrap();
        let file = fs::OpenOptions::new().write(true).open(file).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }

    /// Nothing that was read of it is remembered.
    pub(crate) fn forget_reads(&self) {
        run("blockdev", &["--flushbufs", self.as_str()], b"");
    }

    /// Puts what is on `other` on it.
    pub(crate) fn load_from(&self, other: &Self) {
        let [from, to] = [other, self].map(|disk| disk.loop_file.as_deref().unwrap());
        Self::copy(from, to);
        self.forget_reads();
    }

    fn copy(from: &Path, to: &Path) {
        let [from, to] = [from, to].map(|path| path.to_str().unwrap());
        run("cp", &["--sparse=always", from, to], b"");
    }

    /// Bytes the machine wrote to the disk since it started (`/sys/block/*/stat`, field 7, in sectors).
    pub(crate) fn bytes_written(&self) -> u64 {
        run("sync", &[], b"");
        let name = self.path.file_name().unwrap().to_str().unwrap();
        let stat = fs::read_to_string(format!("/sys/block/{name}/stat")).unwrap();
        let sectors: u64 = stat.split_whitespace().nth(6).unwrap().parse().unwrap();
        sectors * 512
    }
}

/// What was on a disk once.
pub(crate) struct Saved(PathBuf);

impl Saved {
    pub(crate) fn read(&self, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let file = File::open(&self.0).unwrap();
        file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        close();
        if let Some(file) = &self.loop_file {
            run("losetup", &["--detach", self.as_str()], b"");
            fs::remove_file(file).unwrap();
        }
    }
}

/// Whether there are zeros only. Compares block by block: byte by byte takes minutes in an emulated machine.
pub(crate) fn is_blank(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes
        .chunks(ZEROS.len())
        .all(|block| block == &ZEROS[..block.len()])
}

/// Unmounts and unmaps whatever a case that failed left behind.
pub(crate) fn close() {
    Command::new("umount")
        .arg("/mnt")
        .stderr(Stdio::null())
        .status()
        .unwrap();
    for name in [NAME, "case_dif"] {
        if Path::new("/dev/mapper").join(name).exists() {
            run("dmsetup", &["remove", "--retry", name], b"");
        }
    }
}

/// Runs a program to its end, which must be a good one, and gives what it printed.
pub(crate) fn run(program: &str, arguments: &[&str], input: &[u8]) -> String {
    let output = try_run(program, arguments, input);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a program to its end.
pub(crate) fn try_run(program: &str, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// A configuration with one volume `case` of role state on `disk`; `more` replaces or adds lines.
pub(crate) fn config(disk: &Disk, more: &[&str]) -> Config {
    Config::parse(&[BOOT, &lines(disk, more)].concat()).unwrap()
}

/// The text of such a configuration. Argon2id takes seconds in an emulated machine: only cases about it, or about who else
/// opens our volumes, ask for it.
pub(crate) fn lines(disk: &Disk, more: &[&str]) -> String {
    let mut lines = vec![
        "name = \"case\"".to_owned(),
        format!("device = \"{}\"", disk.path.display()),
        "role = \"state\"".to_owned(),
        "format = \"if-blank\"".to_owned(),
        "kdf = \"pbkdf2\"".to_owned(),
        "sources = [\"tpm\", \"generate\"]".to_owned(),
        "mount = \"/var/lib/case\"".to_owned(),
    ];
    for line in more {
        let key = line.split(' ').next().unwrap();
        lines.retain(|have| !have.starts_with(&format!("{key} ")));
        lines.push((*line).to_owned());
    }
    lines.retain(|line| !line.ends_with("none"));
    format!("[[volume]]\n{}\n", lines.join("\n"))
}

pub(crate) fn volume(config: &Config) -> &Volume {
    config.volumes().next().unwrap()
}

pub(crate) fn secret() -> Secret {
    Secret::new(SECRET.to_vec())
}

pub(crate) fn new(volume: &Volume) -> New {
    match volume::examine(volume).unwrap() {
        Found::New(new) => new,
        Found::Existing(_) => panic!("expected a blank device"),
    }
}

/// Formats and opens with the known secret.
pub(crate) fn format(volume: &Volume) -> Opened {
    let keyed = new(volume)
        .format(volume, secret(), None, ProvisionHooks::none(0))
        .unwrap();
    volume::open(volume, keyed, None).unwrap()
}

/// Keys an existing volume with the known secret.
pub(crate) fn key(volume: &Volume) -> Result<Keyed, Error> {
    match volume::examine(volume)? {
        Found::New(_) => panic!("expected an existing volume"),
        Found::Existing(existing) => existing.unlock_with(&secret(), 0),
    }
}

pub(crate) fn mount(kind: &str) {
    run("mount", &["-t", kind, "/dev/mapper/case", "/mnt"], b"");
}

/// A node with a volume of ours, which no case opens, and after it the volume under test.
pub(crate) fn config_beside_ours(disk: &Disk, more: &[&str]) -> Config {
    let ours = "[[volume]]\nname = \"ours\"\ndevice = \"/dev/none\"\nrole = \"state\"\nsources = [\"tpm\"]\nmount = \"/srv\"\n";
    let theirs = format!(
        "[[volume]]\nname = \"case\"\ndevice = \"{}\"\nrole = \"state\"\nmount = \"/var/lib/case\"\n{}\n",
        disk.path.display(),
        more.join("\n")
    );
    Config::parse(&format!("{BOOT}{ours}{theirs}")).unwrap()
}
