// SPDX-License-Identifier: Apache-2.0
//! The key service. `nightlatchd --help` tells what it can do.

fn main() -> std::process::ExitCode {
    nightlatch::keyservice::main(std::env::args_os())
}
