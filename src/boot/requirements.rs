// SPDX-License-Identifier: Apache-2.0
//! What must hold of a boot before a disk is read and a key is asked for.

pub mod kernel;
