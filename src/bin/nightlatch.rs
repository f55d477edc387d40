// SPDX-License-Identifier: Apache-2.0
//! The initrd's program, and systemd's generator by another name.

fn main() -> std::process::ExitCode {
    nightlatch::boot::cli::main(std::env::args_os(), nightlatch::boot::main)
}
