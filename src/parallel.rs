// SPDX-License-Identifier: Apache-2.0
//! Work beside other work: volumes at once, and one thing while another goes on.
//!
//! [`each_volume`] is where to start. Results come in the configuration's order, however long each takes.
//!
//! **Never:** a thread that outlives the work it was started for.

use std::thread::{self, Scope, ScopedJoinHandle};

use log::warn;

use crate::config::Volume;
use crate::error::{Doing, Error, Exit, Result};

/// Works on all volumes at once and waits for each. Of several failures the first one that is not temporary is returned,
/// in the configuration's order; the others are logged.
pub(crate) fn each_volume<'a, I: Send, T: Send>(
    volumes: Vec<(&'a Volume, I)>,
    work: impl Fn(&'a Volume, I) -> Result<T> + Sync,
) -> Result<Vec<(&'a Volume, T)>> {
    let results = thread::scope(|scope| {
        let threads: Vec<_> = volumes
            .into_iter()
            .map(|(volume, input)| {
                let work = &work;
                (volume, spawn(scope, move || work(volume, input)))
            })
            .collect();
        threads
            .into_iter()
            .map(|(volume, thread)| {
                joined(thread)
                    .doing(format_args!("opening volume {}", volume.name))
                    .map(|output| (volume, output))
            })
            .collect::<Vec<_>>()
    });
    let (done, mut failed): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    failed.sort_by_key(|failed| matches!(failed, Err(error) if error.exit() == Exit::Temporary));
    for error in failed
        .iter()
        .skip(1)
        .filter_map(|failed| failed.as_ref().err())
    {
        warn!("{error}");
    }
    failed.into_iter().take(1).chain(done).collect()
}

/// Does something else while `work` goes on, and waits for both.
pub(crate) fn join<A: Send, T>(
    aside: impl FnOnce() -> Result<A> + Send,
    work: impl FnOnce() -> Result<T>,
) -> (Result<A>, Result<T>) {
    thread::scope(|scope| {
        let aside = spawn(scope, aside);
        let done = work();
        (joined(aside), done)
    })
}

/// A thread that was begun, or why there is none.
pub(crate) type Spawned<'scope, T> = Result<ScopedJoinHandle<'scope, Result<T>>>;

/// Begins something in a thread of its own. A system without one to give is an error; `Scope::spawn` would panic.
pub(crate) fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> Result<T> + Send + 'scope,
) -> Spawned<'scope, T> {
    thread::Builder::new()
        .spawn_scoped(scope, work)
        .map_err(Error::failure)
        .doing("starting a thread")
}

/// What came of it.
fn joined<T>(thread: Spawned<'_, T>) -> Result<T> {
    let died = |_| Err(Error::failure("a worker thread died"));
    thread?.join().unwrap_or_else(died)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Config;

    const TWO: &str = r#"
        boot.authorities = ["/etc/nightlatch/authority.pem"]
        [[volume]]
        name = "a"
        device = "/dev/a"
        role = "state"
        sources = ["tpm"]
        mount = "/a"
        [[volume]]
        name = "b"
        device = "/dev/b"
        role = "state"
        sources = ["tpm"]
        mount = "/b"
    "#;

    fn outcomes(a: fn() -> Result<u8>, b: fn() -> Result<u8>) -> Result<Vec<u8>> {
        let config = Config::parse(TWO).unwrap();
        let volumes = config.volumes().zip([a, b]).collect();
        each_volume(volumes, |_, work| work())
            .map(|done| done.into_iter().map(|(_, value)| value).collect())
    }

    #[test]
    fn results_come_in_the_configurations_order() {
        let slow = || {
            thread::sleep(Duration::from_millis(20));
            Ok(1)
        };
        assert_eq!(outcomes(slow, || Ok(2)).unwrap(), [1, 2]);
    }

    #[test]
    fn a_failure_that_is_final_goes_before_one_that_is_not() {
        let error = outcomes(
            || Err(Error::temporary("busy")),
            || Err(Error::refused("forged")),
        )
        .unwrap_err();
        assert_eq!(error.to_string(), "opening volume b: forged");
        let error = outcomes(|| Err(Error::temporary("busy")), || Ok(2)).unwrap_err();
        assert_eq!(error.to_string(), "opening volume a: busy");
    }
}
