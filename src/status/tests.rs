// SPDX-License-Identifier: Apache-2.0
//! The record round-trips, is published whole, and can be drawn.

use std::thread;

use super::*;
use crate::config::Config;

/// What `tests/fixtures/status/boot.json` holds: the record of a first boot, as documented.
const BOOT: &str = include_str!("../../tests/fixtures/status/boot.json");

const CONFIG: &str =
    include_str!("../../tests/fixtures/generator/overlay/root/etc/nightlatch/nightlatch.toml");

#[test]
fn the_documented_record_reads_and_writes_the_same() {
    let status = Status::parse(BOOT).unwrap();
    assert_eq!(status.volumes[0].how, How::Formatted);
    assert_eq!(status.fence_pcr.map(Pcr::index), Some(12));
    assert_eq!(status.to_json().unwrap(), BOOT);
}

#[test]
fn another_schema_is_refused_with_both_numbers() {
    let newer = BOOT.replace("\"schema\": 1", "\"schema\": 2");
    assert_eq!(
        Status::parse(&newer).unwrap_err().to_string(),
        "expected schema 1, found 2: it was written by another version of nightlatch"
    );
    let unknown_field = BOOT.replace("\"schema\": 1", "\"schema\": 1, \"more\": true");
    assert!(Status::parse(&unknown_field).is_ok());
}

#[test]
fn what_is_written_can_be_read_by_anybody_and_leaves_no_part_behind() {
    let root = std::env::temp_dir().join(format!("nightlatch-status-{}", std::process::id()));
    let status = Status::parse(BOOT).unwrap();
    status.write(&root).unwrap();
    status.write(&root).unwrap();
    assert_eq!(Status::load(&root).unwrap(), status);
    let directory = root.join("run/nightlatch");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o755);
    assert_eq!(mode(&root.join(STATUS_PATH)), 0o644);
    fs::remove_dir_all(root).unwrap();
}

#[test]
fn steps_of_several_threads_end_up_in_the_order_they_began() {
    let config = Config::parse(CONFIG).unwrap();
    let recorder = Recorder::start();
    recorder
        .step("opening volumes", None, || {
            thread::scope(|scope| {
                for volume in config.volumes() {
                    let recorder = &recorder;
                    scope.spawn(move || recorder.step("checking header", Some(volume), || Ok(())));
                }
            });
            Ok(())
        })
        .unwrap();
    let refused = recorder.step("handing over", None, || {
        Err::<(), _>(Error::refused("the mount failed"))
    });
    assert_eq!(
        refused.as_ref().unwrap_err().to_string(),
        "handing over: the mount failed"
    );

    let status = recorder.finish(&refused);
    assert_eq!(status.result, "refused");
    assert_eq!(status.exit, 77);
    assert_eq!(
        status.error.as_deref(),
        Some("handing over: the mount failed")
    );
    assert_eq!(status.steps.len(), 4);
    assert_eq!(status.steps[0].name, "opening volumes");
    assert!(status.steps[0].end_us >= status.steps[2].end_us);
    assert!(status.steps[3].failed && !status.steps[0].failed);
}

#[test]
fn the_picture_shows_each_step_once_and_escapes_what_it_shows() {
    let mut status = Status::parse(BOOT).unwrap();
    status.error = Some("a < b & \"c\"\u{1b}".into());
    let picture = svg(&status);
    assert!(picture.contains("a &lt; b &amp; &quot;c&quot;\u{fffd}"));
    assert_eq!(picture.matches("<title>").count(), status.steps.len());
    // Without any step there is still a picture.
    status.steps.clear();
    assert!(svg(&status).ends_with("</svg>\n"));
}
