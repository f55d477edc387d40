// SPDX-License-Identifier: Apache-2.0
//! What several test programs use: a software TPM, a machine of the test's own making, how it was started and from which
//! image, somebody who calls the service, a service that looks at every message, an etcd, a key that signs values of PCRs. Each program includes all of it by one line, and uses a part.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking, and no program uses all of it"
)]

pub(crate) mod caller;
pub(crate) mod curve;
pub(crate) mod etcd;
pub(crate) mod firmware;
pub(crate) mod initrd;
pub(crate) mod machine;
pub(crate) mod mock;
pub(crate) mod pcr_key;
pub(crate) mod swtpm;
pub(crate) mod unified;
