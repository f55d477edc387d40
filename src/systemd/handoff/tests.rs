// SPDX-License-Identifier: Apache-2.0
//! The units, and the protocol against a small PID 1 that really speaks D-Bus. The real PID 1 is tested in a VM.

use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::pin::Pin;

use futures_core::Stream as _;
use zbus::message::Type;
use zbus::{Connection, MessageStream, ObjectPath, Variant};

use super::*;
use crate::error::Exit;
use crate::systemd::relay;

const CONFIG: &str =
    include_str!("../../../tests/fixtures/generator/overlay/root/etc/nightlatch/nightlatch.toml");
const JOB: &str = "/org/freedesktop/systemd1/job/42";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// A root directory that is gone after the test.
struct Root(PathBuf);

impl Root {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nightlatch-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("run/systemd")).unwrap();
        Self(path)
    }

    fn unit(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(RUNTIME_UNITS).join(name)).unwrap()
    }

    /// Serves `connections` connections as PID 1 would, and returns the methods that were called.
    fn pid_1(&self, connections: usize, result: &'static str) -> thread::JoinHandle<Vec<String>> {
        let listener = UnixListener::bind(self.0.join(PRIVATE_SOCKET)).unwrap();
        thread::spawn(move || {
            let serve = |_| {
                let (stream, _) = listener.accept().unwrap();
                zbus::block_on(serve(stream, result))
            };
            (0..connections).flat_map(serve).collect()
        })
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

async fn serve(stream: UnixStream, result: &str) -> Vec<String> {
    let guid = "0123456789abcdef0123456789abcdef";
    let builder = zbus::connection::Builder::unix_stream(signed_as_pid_1(stream));
    let connection = builder.server(guid).p2p().build().await.unwrap();
    let mut messages = MessageStream::from(&connection);
    let mut called = Vec::new();
    while let Some(Ok(message)) =
        poll_fn(|context| Pin::new(&mut messages).poll_next(context)).await
    {
        let header = message.header();
        if header.message_type() != Type::MethodCall {
            continue;
        }
        let member = header.member().unwrap().to_string();
        match member.as_str() {
            "Reload" => {
                flood(&connection).await;
                reply(&connection, &header, &()).await;
            }
            "StartUnit" => {
                let body = message.body();
                let (unit, mode): (String, String) = body.deserialize().unwrap();
                assert_eq!(mode, "replace");
                // Of what is started for itself another result may be told.
                let (of_target, of_others) = result.split_once('/').unwrap_or((result, "none"));
                let result = if unit == TARGET { of_target } else { of_others };
                // Another job ends, and ours does so before the caller knows its path.
                removed(&connection, "/org/freedesktop/systemd1/job/7", "failed").await;
                removed(&connection, JOB, result).await;
                let job = ObjectPath::try_from(JOB).unwrap();
                reply(&connection, &header, &job).await;
            }
            "LoadUnit" => {
                let body = message.body();
                let (unit,): (String,) = body.deserialize().unwrap();
                let name = unit.replace(['-', '.'], "_");
                let path = ObjectPath::try_from(format!("/u/{name}")).unwrap();
                reply(&connection, &header, &path).await;
            }
            "Get" => {
                let body = message.body();
                let (_, name): (String, String) = body.deserialize().unwrap();
                let failed = header.path().unwrap().as_str() == "/u/sysroot_mount";
                let value = match (name.as_str(), failed) {
                    ("ActiveState", true) => "failed",
                    ("ActiveState", false) => "active",
                    _ => "exit-code",
                };
                reply(&connection, &header, &Variant::from(value)).await;
            }
            other => panic!("{other}"),
        }
        called.push(member);
    }
    called
}

/// What zbus writes and [`signed_as_pid_1`] turns into PID 1's own name.
const SENDER: &str = ":rg.freedesktop.systemd1";

/// The stream a client gets to see: with the sender that PID 1 has, which zbus refuses to write.
fn signed_as_pid_1(client: UnixStream) -> UnixStream {
    let (near, mut far) = UnixStream::pair().unwrap();
    let (mut from, mut to) = (client.try_clone().unwrap(), far.try_clone().unwrap());
    thread::spawn(move || {
        std::io::copy(&mut from, &mut to).unwrap();
        to.shutdown(std::net::Shutdown::Both).unwrap();
    });
    let mut client = client;
    thread::spawn(move || {
        let mut senders = relay::Senders::new(relay::COLON, relay::LETTER);
        let mut byte = [0];
        // One byte at a time, so that no field arrives in one piece.
        while far.read(&mut byte).unwrap_or(0) > 0 {
            senders.change(&mut byte);
            if client.write_all(&byte).is_err() {
                break;
            }
        }
    });
    near
}

async fn reply(
    connection: &Connection,
    call: &zbus::message::Header<'_>,
    body: &(impl serde::Serialize + zbus::wire::DynamicType),
) {
    let message = zbus::Message::method_return(call)
        .sender(SENDER)
        .build(body);
    connection.send(&message.unwrap()).await.unwrap();
}

/// As many signals as a reload sends, more than any queue of zbus holds by itself.
async fn flood(connection: &Connection) {
    for number in 0..500 {
        let unit = format!("unit-{number}.device");
        let path = ObjectPath::try_from("/u/x").unwrap();
        let arguments = (unit, path);
        signal(connection, "UnitNew", &arguments).await;
    }
}

async fn removed(connection: &Connection, job: &str, result: &str) {
    let job = ObjectPath::try_from(job).unwrap();
    signal(connection, "JobRemoved", &(7_u32, job, TARGET, result)).await;
}

async fn signal(
    connection: &Connection,
    name: &str,
    arguments: &(impl serde::Serialize + zbus::wire::DynamicType),
) {
    let message = zbus::Message::signal("/org/freedesktop/systemd1", MANAGER, name)
        .sender(SENDER)
        .build(arguments)
        .unwrap();
    connection.send(&message).await.unwrap();
}

fn config() -> Config {
    Config::parse(CONFIG).unwrap()
}

#[test]
fn the_final_system_learns_of_the_data_volume_and_the_layers_below_the_root() {
    let root = Root::new("units");
    let config = config();
    let open: Vec<&Volume> = config.volumes().collect();
    publish(&root.0, &config, &open).unwrap();
    publish(&root.0, &config, &open).unwrap();
    assert_eq!(
        root.unit("var-lib-state.mount"),
        "# Made by nightlatch\n\n\
         [Unit]\nDescription=Volume state\nDocumentation=man:nightlatch(8)\nDefaultDependencies=no\n\
         ConditionPathExists=!/etc/initrd-release\n\
         After=local-fs-pre.target\nBefore=local-fs.target umount.target\nConflicts=umount.target\n\n\
         [Mount]\nWhat=/dev/mapper/state\nWhere=/var/lib/state\nType=btrfs\nOptions=nosuid,nodev\n"
    );
    let link = root
        .0
        .join("run/systemd/system/local-fs.target.requires/var-lib-state.mount");
    assert_eq!(
        fs::read_link(link).unwrap(),
        Path::new("../var-lib-state.mount")
    );
    for layer in ["run-nightlatch-lower.mount", "run-nightlatch-system.mount"] {
        assert!(!root.unit(layer).contains("umount.target"));
        // The initrd mounts the root from this very unit.
        assert!(!root.unit(layer).contains("Condition"));
    }
    assert_eq!(fs::read_dir(root.0.join(RUNTIME_UNITS)).unwrap().count(), 4);
}

/// All volumes are open; what came of each mount.
fn hand_over_all(root: &Root, config: &Config) -> Result<Vec<bool>> {
    let open: Vec<&Volume> = config.volumes().collect();
    let mounted = hand_over(&root.0, config, &open)?;
    Ok(mounted.iter().map(|(_, it)| it.is_ok()).collect())
}

/// The same configuration, whose data volume need not be there.
fn config_of_optional() -> Config {
    let optional = "name = \"state\"\nrequired = false\n";
    let text = CONFIG.replace("name = \"state\"\n", optional);
    let root = "measure.cluster-volume = \"system\"\n";
    let config = Config::parse(&[root, &text].concat()).unwrap();
    assert!(config.volumes().any(|volume| !volume.required));
    config
}

const WANTED: &str = "local-fs.target.wants/var-lib-state.mount";
const NOT_WAITED_FOR: &str = "dev-mapper-state.device.d/50-away.conf";

#[test]
fn a_volume_that_need_not_be_there_is_mounted_for_itself_where_it_is_open() {
    let root = Root::new("optional");
    let pid_1 = root.pid_1(2, "done/done");
    let mounted = hand_over_all(&root, &config_of_optional()).unwrap();
    assert_eq!(mounted, [true, true]);
    let called = pid_1.join().unwrap();
    assert_eq!(called, ["Reload", "StartUnit", "Reload", "StartUnit"]);
    let units = root.0.join(RUNTIME_UNITS);
    assert!(units.join(WANTED).symlink_metadata().is_ok());
    assert!(!units.join("local-fs.target.requires").exists());
    assert!(!units.join(NOT_WAITED_FOR).exists());
}

/// Not open at all, or not mounted: who needs it fails at once, and nobody waits.
#[test]
fn a_volume_that_is_away_is_not_waited_for_and_its_mount_fails_who_needs_it() {
    let config = config_of_optional();
    let required: Vec<&Volume> = config.volumes().filter(|it| it.required).collect();
    let all: Vec<&Volume> = config.volumes().collect();
    for (name, open, jobs) in [("away", &required, 1), ("unmounted", &all, 2)] {
        let root = Root::new(name);
        let pid_1 = root.pid_1(jobs, "done/failed");
        let mounted = hand_over(&root.0, &config, open).unwrap();
        assert_eq!(mounted.len(), open.len());
        let failed: Vec<_> = mounted.iter().filter(|(_, it)| it.is_err()).collect();
        assert_eq!(failed.len(), jobs - 1);
        for (volume, error) in failed {
            assert_eq!(volume.name.as_str(), "state");
            let said = error.as_ref().unwrap_err().to_string();
            assert_eq!(
                said,
                "starting sysroot-var-lib-state.mount: systemd says failed"
            );
        }
        pid_1.join().unwrap();
        let units = root.0.join(RUNTIME_UNITS);
        assert!(units.join("var-lib-state.mount").exists());
        assert!(units.join(WANTED).symlink_metadata().is_err());
        assert!(
            root.unit(NOT_WAITED_FOR)
                .ends_with("[Unit]\nJobRunningTimeoutSec=1\n")
        );
    }
}

#[test]
fn a_job_that_ends_before_its_path_is_known_is_not_missed() {
    let root = Root::new("done");
    let pid_1 = root.pid_1(1, "done");
    hand_over_all(&root, &config()).unwrap();
    assert_eq!(pid_1.join().unwrap(), ["Reload", "StartUnit"]);
}

#[test]
fn a_failed_job_names_the_mount_that_failed_and_why() {
    let root = Root::new("dependency");
    let pid_1 = root.pid_1(2, "dependency");
    fs::create_dir_all(root.0.join("dev/mapper")).unwrap();
    fs::write(root.0.join("dev/mapper/root"), "").unwrap();
    let error = hand_over_all(&root, &config()).unwrap_err();
    assert_eq!(error.exit(), Exit::Failure);
    assert_eq!(
        error.to_string(),
        "starting nightlatch-volumes.target: systemd says dependency: sysroot.mount failed (exit-code)"
    );
    pid_1.join().unwrap();
}

#[test]
fn a_lower_image_that_is_gone_is_missing_hardware() {
    let root = Root::new("gone");
    let pid_1 = root.pid_1(2, "dependency");
    let error = hand_over_all(&root, &config()).unwrap_err();
    assert_eq!(error.exit(), Exit::Unavailable);
    assert_eq!(
        error.to_string(),
        "starting nightlatch-volumes.target: systemd says dependency: lower image /dev/mapper/root is missing: \
         sysroot.mount failed (exit-code)"
    );
    pid_1.join().unwrap();
}

#[test]
fn a_job_that_does_not_end_is_given_up_in_time() {
    let root = Root::new("silent");
    // A listener that never answers: the connection is made and nothing follows.
    let _silent = UnixListener::bind(root.0.join(PRIVATE_SOCKET)).unwrap();
    let started = within(Duration::from_millis(50), {
        let socket = root.0.join(PRIVATE_SOCKET);
        move || manager::start(&socket, TARGET)
    });
    assert!(started.is_none());
}

#[test]
fn without_pid_1_the_socket_is_named() {
    let root = Root::new("absent");
    let error = hand_over_all(&root, &config()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "starting nightlatch-volumes.target: connecting to {}: No such file or directory (os error 2)",
            root.0.join(PRIVATE_SOCKET).display()
        )
    );
}
