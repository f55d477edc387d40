// SPDX-License-Identifier: Apache-2.0
//! PID 1 over D-Bus, peer to peer: org.freedesktop.systemd1(5). The only user of zbus.
//!
//! There is no bus on this socket, so no `Hello` and no `AddMatch`; PID 1 sends its signals to everyone on it, and
//! `Subscribe` changes nothing (systemd, src/core/dbus.c).

use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;

use futures_core::Stream as _;
use serde::{Serialize, de::DeserializeOwned};
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, OwnedVariant};

use crate::error::{Doing, Error, Result};
use crate::systemd::relay;

const SERVICE: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const MOUNT: &str = "org.freedesktop.systemd1.Mount";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// How many jobs may end between the call that starts ours and its answer. A full queue would hold the answer back.
const JOBS_MAX: NonZeroUsize = match NonZeroUsize::new(1024) {
    Some(jobs) => jobs,
    None => NonZeroUsize::MIN,
};

impl From<zbus::Error> for Error {
    fn from(error: zbus::Error) -> Self {
        Self::failure(error)
    }
}

/// Has PID 1 load its units again, starts `unit`, and waits for the job's result: `done` or what went wrong.
pub(crate) fn start(socket: &Path, unit: &str) -> Result<String> {
    zbus::block_on(async {
        let connection = connect(socket).await?;
        // The answer comes when the units are loaded.
        call::<()>(&connection, PATH, MANAGER, "Reload", &())
            .await
            .doing("reloading units")?;
        // From before the job exists, so that its end cannot be missed.
        let mut ended = jobs_removed(&connection).await?;
        let job: OwnedObjectPath =
            call(&connection, PATH, MANAGER, "StartUnit", &(unit, "replace")).await?;
        loop {
            let (_, removed, _, result) = next(&mut ended).await?;
            if removed == job {
                return Ok(result);
            }
        }
    })
}

/// Those of `units` that are not active, each with its state and, for a failed one, why.
pub(crate) fn missing(socket: &Path, units: &[String]) -> Result<Vec<String>> {
    zbus::block_on(async {
        let connection = connect(socket).await?;
        let mut missing = Vec::new();
        for unit in units {
            let path: OwnedObjectPath =
                call(&connection, PATH, MANAGER, "LoadUnit", &(unit,)).await?;
            let state = property(&connection, &path, UNIT, "ActiveState").await?;
            match state.as_str() {
                "active" => {}
                "failed" => {
                    let why = property(&connection, &path, MOUNT, "Result").await?;
                    missing.push(format!("{unit} failed ({why})"));
                }
                _ => missing.push(format!("{unit} is {state}")),
            }
        }
        Ok(missing)
    })
}

async fn connect(socket: &Path) -> Result<Connection> {
    let stream = UnixStream::connect(socket)
        .and_then(relay::through)
        .doing(format_args!("connecting to {}", socket.display()))?;
    let builder = zbus::connection::Builder::unix_stream(stream).p2p();
    Ok(builder.build().await?)
}

async fn call<R: DeserializeOwned + zbus::Type>(
    connection: &Connection,
    path: &str,
    interface: &str,
    method: &str,
    arguments: &(impl Serialize + zbus::wire::DynamicType),
) -> Result<R> {
    let answer = connection
        .call_method(Some(SERVICE), path, Some(interface), method, arguments)
        .await?;
    Ok(answer.body().deserialize()?)
}

/// A property that is a string.
async fn property(
    connection: &Connection,
    path: &OwnedObjectPath,
    interface: &str,
    name: &str,
) -> Result<String> {
    let value: OwnedVariant = call(
        connection,
        path.as_str(),
        PROPERTIES,
        "Get",
        &(interface, name),
    )
    .await?;
    String::try_from(value).map_err(|error| Error::failure(format_args!("{name}: {error}")))
}

/// The signals `JobRemoved`. PID 1 sends many others while it loads units, which nobody would take off a queue.
async fn jobs_removed(connection: &Connection) -> Result<MessageStream> {
    let rule = MatchRule::builder()
        .msg_type(Type::Signal)
        .interface(MANAGER)
        .member("JobRemoved")
        .build()?;
    Ok(MessageStream::for_match_rule(rule, connection, Some(JOBS_MAX)).await?)
}

/// The next job that ended: id, path, unit, result.
async fn next(ended: &mut MessageStream) -> Result<(u32, OwnedObjectPath, String, String)> {
    let message = poll_fn(|context| Pin::new(&mut *ended).poll_next(context))
        .await
        .ok_or_else(|| Error::failure("PID 1 closed the connection"))??;
    Ok(message.body().deserialize()?)
}
