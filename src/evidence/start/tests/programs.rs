// SPDX-License-Identifier: Apache-2.0
//! Which programs the firmware may have started.

use super::*;

#[test]
fn nothing_runs_beside_the_image_but_a_loader_that_is_configured() {
    let with_programs = |programs: usize| {
        log_with(|log| {
            log.authority(OWNER);
            for _ in 1..programs {
                log.program(b"other", "\\EFI\\systemd\\systemd-bootx64.efi");
            }
            if programs > 0 {
                log.program(b"image", "\\EFI\\Linux\\image.efi");
            }
            log.section(".linux", b"kernel");
        })
    };
    let first = |log: &FirmwareLog, first: First| {
        let authorities = [OWNER.to_vec()];
        let expected = Expected {
            first,
            ..required(&authorities)
        };
        prove(&Log::firmware(&log.0).unwrap(), &values_of(log), &expected)
    };
    let start = first(&with_programs(1), First::Image).unwrap();
    assert_eq!(start.programs.len(), 1);
    first(&with_programs(2), First::Loader).unwrap();
    first(&with_programs(1), First::Loader).unwrap();
    let message = first(&with_programs(2), First::Image)
        .unwrap_err()
        .to_string();
    assert_eq!(
        message,
        "another program ran before the image: program \"\\EFI\\systemd\\systemd-bootx64.efi\": \
         start the image without it, or say boot.loader = \"systemd-boot\" if that is what it is"
    );
    assert!(matches!(
        first(&with_programs(3), First::Loader),
        Err(Unmet::ProgramBefore { .. })
    ));
    // An image that nothing started came by a way around the firmware.
    assert_eq!(
        first(&with_programs(0), First::Loader),
        Err(Unmet::NoProgram)
    );
}

/// The order of entries of different PCRs is the machine's own word: each PCR replays all the same.
#[test]
fn a_program_more_counts_wherever_the_log_has_it() {
    let log = |order: &[&str]| {
        log_with(|log| {
            log.authority(OWNER);
            for what in order {
                match *what {
                    "section" => log.section(".linux", b"kernel"),
                    program => log.program(program.as_bytes(), "\\x"),
                };
            }
        })
    };
    let prove = |log: &FirmwareLog, expected: &Expected<'_>| {
        prove(&Log::firmware(&log.0).unwrap(), &values_of(log), expected)
    };
    let authorities = [OWNER.to_vec()];
    let required = required(&authorities);
    let is_denied = |start: Result<Start, Unmet>| {
        assert!(
            matches!(start, Err(Unmet::ProgramBefore { .. })),
            "{start:?}"
        );
    };
    prove(&log(&["image", "section"]), &required).unwrap();
    is_denied(prove(&log(&["host's", "section", "image"]), &required));
    is_denied(prove(&log(&["section", "host's", "image"]), &required));
    // The kernel inside is one of two where its stub has the firmware start it.
    let not_required = not_required();
    prove(&log(&["image", "section", "kernel"]), &not_required).unwrap();
    prove(&log(&["image", "section"]), &not_required).unwrap();
    is_denied(prove(
        &log(&["host's", "section", "image", "kernel"]),
        &not_required,
    ));
    let loader = Expected {
        first: First::Loader,
        ..not_required
    };
    prove(&log(&["loader", "image", "section", "kernel"]), &loader).unwrap();
    is_denied(prove(
        &log(&["loader", "section", "host's", "image", "kernel"]),
        &loader,
    ));
}

#[test]
fn a_program_before_the_boot_options_is_refused() {
    let started = |separators: [bool; 2], has_kernel: bool| {
        let mut log = FirmwareLog::new();
        log.secure_boot(true).event(7, 4, &[0; 4], &[0; 4]);
        if separators[0] {
            log.boot_options();
        }
        log.authority(OWNER).program(b"image", "\\x");
        if has_kernel {
            log.program(b"kernel", "\\kernel");
        }
        if separators[1] {
            log.boot_options();
        }
        log.section(".linux", b"kernel");
        let values = values_of(&log);
        let expected = Expected {
            sealed: pcrs(&[4, 12]),
            ..not_required()
        };
        prove(&Log::firmware(&log.0).unwrap(), &values, &expected)
    };
    started([true, false], true).unwrap();
    // A kernel that QEMU hands over: one program, and nothing that it could hide.
    started([false, true], false).unwrap();
    for separators in [[false, true], [false, false], [true, true]] {
        let unmet = started(separators, true).unwrap_err();
        assert_eq!(
            unmet,
            Unmet::OutsideOfBootOptions("program \"\\x\"".into()),
            "{separators:?}"
        );
        assert!(
            unmet
                .to_string()
                .contains("delete the firmware's variables SysPrep####")
        );
    }
}

/// A program that came back, or that Secure Boot denied, is no loader.
#[test]
fn an_option_that_led_to_a_program_in_vain_is_named_with_what_to_do() {
    let calling = b"Calling EFI Application from Boot Option";
    let returning = b"Returning from EFI Application from Boot Option";
    let log = log_with(|log| {
        log.event(4, 0x8000_0007, calling, calling);
        log.program(b"another disk's", "\\EFI\\BOOT\\BOOTX64.EFI");
        log.event(4, 0x8000_0007, returning, returning);
        log.event(4, 0x8000_0007, calling, calling);
        log.authority(OWNER)
            .program(b"image", "\\EFI\\BOOT\\BOOTX64.EFI");
        log.section(".linux", b"kernel");
    });
    assert_eq!(
        unmet(&log).to_string(),
        "another program ran before the image: program \"\\EFI\\BOOT\\BOOTX64.EFI\": the firmware tried boot option \
         \"without a name\", whose program came back or was denied: put the image's disk first in the boot order"
    );
}
