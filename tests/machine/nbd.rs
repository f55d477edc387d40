// SPDX-License-Identifier: Apache-2.0
//! A disk served by the case itself, over the network block device protocol (NBD, doc/proto.md), so that it can answer one
//! read like this and the next one like that.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::disk::{Disk, close, run, try_run};

const DEVICE: &str = "/dev/nbd0";
const SOCKET: &str = "/tmp/nbd.socket";
/// How long somebody else may have the device open.
const BUSY_LIMIT: Duration = Duration::from_secs(60);
/// How finely reads are counted, in bytes: a page, which the kernel reads at once.
const BLOCK_LEN: usize = 4096;

// Fixed newstyle negotiation and the simple replies.
const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REPLY_UNSUPPORTED: u32 = 0x8000_0001;
const FIXED_NEWSTYLE: u16 = 1;
const HAS_FLAGS_AND_FLUSH: u16 = 1 | 4;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;

/// When a block is shown as it is not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lying {
    /// The first time it is read; later it is shown as it is.
    AtFirst,
    /// Each time after it was shown as it is this often.
    After(u32),
}

/// What is shown in the place of what is there.
#[derive(Debug)]
pub(crate) struct Lie {
    pub(crate) when: Lying,
    /// Offsets and bytes, whole blocks.
    pub(crate) pieces: Vec<(usize, Vec<u8>)>,
}

/// The disk's content and what is shown of it.
struct Faces {
    bytes: Vec<u8>,
    lie: Option<Lie>,
    /// How often each block in question was read.
    reads: HashMap<usize, u32>,
    lies_told: usize,
}

/// The device, gone when dropped.
pub(crate) struct TwoFaced {
    pub(crate) disk: Disk,
    faces: Arc<Mutex<Faces>>,
    thread: Option<JoinHandle<()>>,
}

impl TwoFaced {
    /// A blank one.
    pub(crate) fn start(len_mib: usize) -> Self {
        close();
        run("modprobe", &["nbd", "nbds_max=1", "max_part=0"], b"");
        let faces = Arc::new(Mutex::new(Faces {
            bytes: vec![0; len_mib << 20],
            lie: None,
            reads: HashMap::new(),
            lies_told: 0,
        }));
        let thread = connect(&faces);
        run("udevadm", &["settle"], b"");
        Self {
            disk: Disk::at(DEVICE),
            faces,
            thread: Some(thread),
        }
    }

    fn faces(&self) -> MutexGuard<'_, Faces> {
        self.faces.lock().unwrap()
    }

    /// What is on the disk.
    pub(crate) fn contents(&self) -> Vec<u8> {
        run("blockdev", &["--flushbufs", DEVICE], b"");
        self.faces().bytes.clone()
    }

    /// Puts something else on it.
    pub(crate) fn load(&self, bytes: &[u8]) {
        run("blockdev", &["--flushbufs", DEVICE], b"");
        self.faces().bytes.copy_from_slice(bytes);
    }

    /// From now on it lies. Nothing is left in the machine's cache of what was read before.
    pub(crate) fn lie(&self, lie: Lie) {
        run("udevadm", &["settle"], b"");
        run("blockdev", &["--flushbufs", DEVICE], b"");
        let mut faces = self.faces();
        (faces.reads, faces.lies_told) = (HashMap::new(), 0);
        faces.lie = Some(lie);
    }

    /// From now on it is honest. Returns how many blocks it lied about.
    pub(crate) fn be_honest(&self) -> usize {
        run("udevadm", &["settle"], b"");
        run("blockdev", &["--flushbufs", DEVICE], b"");
        let mut faces = self.faces();
        faces.lie = None;
        faces.lies_told
    }
}

impl Drop for TwoFaced {
    fn drop(&mut self) {
        close();
        run("nbd-client", &["-d", DEVICE], b"");
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(matches!(ended, Some(Ok(()))) || thread::panicking());
    }
}

impl Faces {
    fn read(&mut self, at: usize, len: usize) -> Vec<u8> {
        let mut shown = self.bytes[at..at + len].to_vec();
        for block in at / BLOCK_LEN..(at + len).div_ceil(BLOCK_LEN) {
            let start = block * BLOCK_LEN;
            if let Some(other) = self.show(start) {
                for (index, byte) in other.into_iter().enumerate() {
                    if let Some(to) = (start + index)
                        .checked_sub(at)
                        .and_then(|within| shown.get_mut(within))
                    {
                        *to = byte;
                    }
                }
            }
        }
        shown
    }

    /// The block to show in the place of the one at `start`.
    fn show(&mut self, start: usize) -> Option<Vec<u8>> {
        let lie = self.lie.as_ref()?;
        let other = lie.pieces.iter().find_map(|(at, bytes)| {
            let within = start.checked_sub(*at)?;
            bytes.get(within..within + BLOCK_LEN)
        })?;
        let read_before = self.reads.entry(start).or_default();
        *read_before += 1;
        let lies = match lie.when {
            Lying::AtFirst => *read_before == 1,
            Lying::After(honest) => *read_before > honest,
        };
        self.lies_told += usize::from(lies);
        lies.then(|| other.to_vec())
    }
}

/// Gives the device to the kernel. The kernel refuses to set one up that anybody has open, and udev opens it whenever it
/// comes, goes or was written to; so this tries until nobody has.
fn connect(faces: &Arc<Mutex<Faces>>) -> JoinHandle<()> {
    let began = Instant::now();
    loop {
        run("udevadm", &["settle"], b"");
        std::fs::remove_file(SOCKET).unwrap_or_default();
        let listener = UnixListener::bind(SOCKET).unwrap();
        let served = Arc::clone(faces);
        let thread = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            serve(stream, &served).unwrap();
        });
        let client = try_run("nbd-client", &["-unix", SOCKET, DEVICE], b"");
        if client.status.success() {
            return thread;
        }
        let said = String::from_utf8_lossy(&client.stderr);
        assert!(began.elapsed() < BUSY_LIMIT, "nbd-client: {said}");
    }
}

/// Serves one client until it leaves.
fn serve(mut stream: UnixStream, faces: &Mutex<Faces>) -> io::Result<()> {
    let len = faces.lock().unwrap().bytes.len();
    negotiate(&mut stream, len)?;
    loop {
        let magic: u32 = match number(&mut stream) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            magic => magic?,
        };
        assert_eq!(magic, REQUEST_MAGIC);
        let kind: u32 = number(&mut stream)?;
        let mut handle = [0; 8];
        stream.read_exact(&mut handle)?;
        let at: u32 = number(&mut stream)?;
        assert_eq!(at, 0, "the disk is shorter than 4 GiB");
        let at: u32 = number(&mut stream)?;
        let len: u32 = number(&mut stream)?;
        let (at, len) = (at as usize, len as usize);
        let mut reply = [REPLY_MAGIC.to_be_bytes(), [0; 4]].concat();
        reply.extend(handle);
        // The upper half is flags, of which none were offered.
        match kind {
            0 => reply.extend(faces.lock().unwrap().read(at, len)),
            1 => {
                let mut bytes = vec![0; len];
                stream.read_exact(&mut bytes)?;
                faces.lock().unwrap().bytes[at..at + len].copy_from_slice(&bytes);
            }
            2 => return Ok(()),
            3 => {}
            other => panic!("a request of kind {other}"),
        }
        match stream.write_all(&reply) {
            // Whoever asked was cut off: udev may be reading when the device is taken from the kernel.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written?,
        }
    }
}

/// Offers one export by whatever name, and nothing else.
fn negotiate(stream: &mut UnixStream, len: usize) -> io::Result<()> {
    stream.write_all(b"NBDMAGICIHAVEOPT")?;
    stream.write_all(&FIXED_NEWSTYLE.to_be_bytes())?;
    let _client_flags: u32 = number(stream)?;
    loop {
        let mut magic = [0; 8];
        stream.read_exact(&mut magic)?;
        assert_eq!(u64::from_be_bytes(magic), OPTION_MAGIC);
        let option: u32 = number(stream)?;
        let mut data = vec![0; number(stream)? as usize];
        stream.read_exact(&mut data)?;
        if option == OPTION_EXPORT_NAME {
            stream.write_all(&(len as u64).to_be_bytes())?;
            stream.write_all(&HAS_FLAGS_AND_FLUSH.to_be_bytes())?;
            return stream.write_all(&[0; 124]);
        }
        stream.write_all(&OPTION_REPLY_MAGIC.to_be_bytes())?;
        for word in [option, REPLY_UNSUPPORTED, 0] {
            stream.write_all(&word.to_be_bytes())?;
        }
    }
}

/// The next number on the wire.
fn number(stream: &mut UnixStream) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}
