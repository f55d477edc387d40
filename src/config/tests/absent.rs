// SPDX-License-Identifier: Apache-2.0
//! Which volumes may be absent, and how long they are waited for.

use super::*;

const ROOT: &str = "[[volume]]\nname = \"system\"\nrole = \"root\"\nmode = \"plain\"\ndevice = \"/dev/b\"\nsources = [\"tpm\"]\n";
const DATA: &str = "[[volume]]\nname = \"data\"\nrole = \"state\"\nmount = \"/data\"\ndevice = \"/dev/c\"\nsources = [\"tpm\"]\n";

fn refused(text: &str, said: &str) {
    let error = parse(text).unwrap_err().to_string();
    assert!(error.contains(said), "{error}");
}

#[test]
fn a_data_volume_may_be_absent_and_is_waited_for_ten_seconds() {
    let config = parse(&[ROOT, DATA, "required = false\n"].concat()).unwrap();
    let waits: Vec<_> = config.volumes().map(Volume::wait_s).collect();
    assert_eq!(waits, [None, Some(10)]);
    let config = parse(&[ROOT, DATA, "required = false\nwait-s = 3\n"].concat()).unwrap();
    assert_eq!(config.volumes().nth(1).unwrap().wait_s(), Some(3));
    assert!(parse(&[ROOT, DATA, "required = true\n"].concat()).is_ok());
    for wait_s in ["0", "86401"] {
        let line = format!("required = false\nwait-s = {wait_s}\n");
        refused(&[ROOT, DATA, &line].concat(), "wait-s: expected 1 to 86400");
    }
    refused(
        &[ROOT, DATA, "wait-s = 3\n"].concat(),
        "wait-s: expected required = false beside it",
    );
}

#[test]
fn neither_the_root_nor_the_volume_of_the_cluster_id_may_be_absent() {
    let lines = [DATA, ROOT, "required = false\n"].concat();
    refused(&lines, "required: expected true for the root");
    let first = [DATA, "required = false\n", ROOT].concat();
    let said =
        "volume data: required: expected true for the volume that the clusterID is derived from";
    refused(&first, said);
    // It is the first one unless another is named.
    let named = |name: &str| ["measure.cluster-volume = \"", name, "\"\n", &first].concat();
    refused(&named("data"), said);
    assert!(parse(&named("system")).is_ok());
}

#[test]
fn nothing_is_mounted_below_a_volume_that_may_be_absent() {
    let below = |mount: &str| {
        let other = DATA.replace("data", "more").replace("/dev/c", "/dev/d");
        let other = other.replace("\"/more\"", &format!("\"{mount}\""));
        [ROOT, DATA, "required = false\n", &other].concat()
    };
    refused(
        &below("/data/more"),
        "volume more: mount: expected a directory that is not below that of volume data",
    );
    assert!(parse(&below("/database")).is_ok());
    assert!(parse(&below("/data/more").replace("required = false\n", "")).is_ok());
}
