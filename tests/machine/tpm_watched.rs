// SPDX-License-Identifier: Apache-2.0
//! A TPM of the case's own with somebody in between who sees each permanent state it takes, before the answer to the
//! command that made it gets through. So what was done on a disk before and after is in order with it.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::firmware::Firmware;
use crate::tpm_private::{Private, free_pair};

/// What is called with the number of each new state.
type Told = Box<dyn Fn(usize) + Send>;

/// The states, in order.
struct Watch {
    file: PathBuf,
    states: Mutex<Vec<Vec<u8>>>,
    told: Mutex<Told>,
    port: AtomicU16,
    over: AtomicBool,
}

impl Watch {
    /// Whoever asked for it waits until it is written down.
    fn look(&self) {
        let mut states = self.states.lock().unwrap();
        // There is none before the first command that leaves something.
        let Ok(now) = fs::read(&self.file) else {
            return;
        };
        if states.last() != Some(&now) {
            states.push(now);
            (self.told.lock().unwrap())(states.len() - 1);
        }
    }
}

/// The TPM, the one in between, and the port of the latter.
pub(crate) struct Watched {
    tpm: Private,
    watch: Arc<Watch>,
    port: u16,
}

impl Watched {
    /// A new TPM. `told` learns the number of each state when it is taken; a new TPM has none yet.
    pub(crate) fn start(told: impl Fn(usize) + Send + 'static) -> Self {
        let tpm = Private::start();
        let watch = Arc::new(Watch {
            file: tpm.state_file(),
            states: Mutex::default(),
            told: Mutex::new(Box::new(told)),
            port: AtomicU16::new(tpm.port()),
            over: AtomicBool::new(false),
        });
        watch.look();
        let port = free_pair();
        // The commands, and the channel beside them.
        for offset in [0, 1] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port + offset)).unwrap();
            let watch = Arc::clone(&watch);
            thread::spawn(move || serve(&listener, offset, &watch));
        }
        Self { tpm, watch, port }
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The power goes and comes back, and the firmware starts the owner's image.
    pub(crate) fn reset(&mut self) {
        self.reset_to(&Firmware::signed());
    }

    /// The power goes and comes back, and the machine is started like this.
    pub(crate) fn reset_to(&mut self, firmware: &Firmware) {
        self.tpm.reset_to(firmware);
        self.watch.port.store(self.tpm.port(), Ordering::SeqCst);
        self.watch.look();
    }

    /// Runs one of the tpm2-tools on the TPM itself, which must succeed.
    pub(crate) fn tool(&self, name: &str, arguments: &[&str]) {
        self.tpm.tool(name, arguments);
        self.watch.look();
    }

    /// All of them. The TPM is gone then.
    pub(crate) fn into_states(self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.watch.states.lock().unwrap())
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.over.store(true, Ordering::SeqCst);
        for offset in [0, 1] {
            drop(TcpStream::connect((
                Ipv4Addr::LOCALHOST,
                self.port + offset,
            )));
        }
    }
}

fn serve(listener: &TcpListener, offset: u16, watch: &Arc<Watch>) {
    for client in listener.incoming() {
        if watch.over.load(Ordering::SeqCst) {
            return;
        }
        let client = client.unwrap();
        let port = watch.port.load(Ordering::SeqCst) + offset;
        let tpm = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (from_client, to_tpm) = (client.try_clone().unwrap(), tpm.try_clone().unwrap());
        let commands = thread::spawn(move || pass_on(from_client, to_tpm, || {}));
        // Whichever side ends, the other learns of it.
        pass_on(tpm, client, || watch.look()).unwrap_or_default();
        commands.join().unwrap().unwrap_or_default();
    }
}

/// Passes on what comes, each time after `before`, until one side ends.
fn pass_on(mut from: TcpStream, mut to: TcpStream, before: impl Fn()) -> io::Result<()> {
    let mut bytes = [0; 4096];
    let ended = loop {
        match from.read(&mut bytes) {
            Ok(0) => break Ok(()),
            Err(error) => break Err(error),
            Ok(len) => {
                before();
                if let Err(error) = to.write_all(&bytes[..len]) {
                    break Err(error);
                }
            }
        }
    };
    for end in [&from, &to] {
        // One that is gone already is as good.
        end.shutdown(Shutdown::Both).unwrap_or_default();
    }
    ended
}
