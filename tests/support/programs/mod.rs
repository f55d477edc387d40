// SPDX-License-Identifier: Apache-2.0
//! Our programs as processes, for test programs that Cargo builds them for. It uses the rest of `support`.

#![allow(dead_code, reason = "no program uses all of it")]

pub(crate) mod daemon;
pub(crate) mod operators;
