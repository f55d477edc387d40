// SPDX-License-Identifier: Apache-2.0
//! How the initrd's program is linked, which has to stay small.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // What the loader adds its address to is 130 KB as a list, and a few as a bitmap (DT_RELR, in glibc since 2.36).
    println!("cargo:rustc-link-arg-bin=nightlatch=-Wl,-z,pack-relative-relocs");
}
