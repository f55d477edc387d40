// SPDX-License-Identifier: Apache-2.0
//! What the tests of the clouds' KMSs have in common: a stub with credentials for it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use super::Kms;
use super::stub::{Asked, Stub, Told};

/// A cloud of one test: a server, a file of credentials for it, and what is answered in place of what it would.
pub(crate) struct Cloud {
    pub(crate) stub: Stub,
    pub(crate) credentials: PathBuf,
    instead: Arc<Mutex<Vec<Told>>>,
}

impl Cloud {
    /// `own` answers what is asked, but for what is `meant` and was given another answer.
    pub(crate) fn start(
        credentials: &str,
        meant: impl Fn(&Asked) -> bool + Send + 'static,
        own: impl Fn(&Asked) -> Told + Send + 'static,
    ) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nightlatch-cloud-{}-{number}", std::process::id());
        let instead: Arc<Mutex<Vec<Told>>> = Arc::default();
        let given = Arc::clone(&instead);
        let stub = Stub::start(move |asked| {
            let given = meant(asked).then(|| given.lock().unwrap().pop());
            given.flatten().unwrap_or_else(|| own(asked))
        });
        let cloud = Self {
            stub,
            credentials: std::env::temp_dir().join(name),
            instead,
        };
        cloud.hand_over(credentials);
        cloud
    }

    /// Writes the credentials.
    pub(crate) fn hand_over(&self, text: &str) {
        fs::write(&self.credentials, text).unwrap();
        fs::set_permissions(&self.credentials, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Its client, by what the configuration says beside.
    pub(crate) fn kms(&self, lines: &str) -> Kms {
        let config = format!(
            "url = \"{}\"\ncredentials = \"file:{}\"\ndeadline-s = 20\n{lines}",
            self.stub.url(),
            self.credentials.display()
        );
        Kms::new(&toml::from_str(&config).unwrap()).unwrap()
    }

    /// The next answers, of which the last comes first; a denial is asked about twice.
    pub(crate) fn instead(&self, answers: &[Told]) {
        *self.instead.lock().unwrap() = answers.to_vec();
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        fs::remove_file(&self.credentials).unwrap();
    }
}
