// SPDX-License-Identifier: Apache-2.0
//! x
/// x
pub fn main(_: impl IntoIterator<Item = std::ffi::OsString>) -> std::process::ExitCode { std::process::ExitCode::SUCCESS }
