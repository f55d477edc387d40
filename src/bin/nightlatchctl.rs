// SPDX-License-Identifier: Apache-2.0
//! The administrator's program. `nightlatchctl --help` tells what it can do.

fn main() -> std::process::ExitCode {
    nightlatch::ctl::main(std::env::args_os())
}
