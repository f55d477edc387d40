// SPDX-License-Identifier: Apache-2.0
//! Many nodes at once, and those of a list of addresses.

use std::net::TcpListener;

use super::*;

/// An address that nobody listens at.
fn silent() -> String {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    free.local_addr().unwrap().to_string()
}

#[test]
fn a_node_that_says_nothing_holds_up_no_other() {
    let node = Node::new("");
    let other = node.beside();
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mute_at = mute.local_addr().unwrap().to_string();
    let options = Recover {
        nodes: vec![mute_at, node.address(), silent(), other.address()],
        ..node.options()
    };
    let opened = AtomicUsize::new(0);
    let boot = |node: &Node, session: &OperatorSession| {
        let done = node.keyed(session, &[5; KEY_LEN]);
        opened.fetch_add(usize::from(done.is_ok()), Ordering::SeqCst);
        done
    };
    let operator = || {
        let answer = thread::scope(|scope| {
            // It takes the connection, and keeps it until both others are recovered.
            scope.spawn(|| {
                let held = mute.accept().unwrap();
                let started = Instant::now();
                while opened.load(Ordering::SeqCst) < 2 {
                    assert!(started.elapsed() < Duration::from_secs(50), "they wait");
                    thread::sleep(Duration::from_millis(20));
                }
                drop(held);
            });
            recover(&options).unwrap()
        });
        assert_eq!(answer.text, "2 of 4 nodes recovered\n");
        let nodes = answer.json["nodes"].as_array().unwrap().clone();
        let addresses: Vec<&str> = nodes
            .iter()
            .map(|it| it["address"].as_str().unwrap())
            .collect();
        assert_eq!(addresses, options.nodes);
        let recovered: Vec<bool> = nodes.iter().map(|it| it["recovered"] == true).collect();
        assert_eq!(recovered, [false, true, false, true]);
        assert!(answer.exit.is_some());
    };
    let open = |node: &Node| OperatorSession::open(&node.directory, &node.config).unwrap();
    let (first, second) = (open(&node), open(&other));
    let both = || {
        let waited = other.wait_with(&second, operator, || boot(&other, &second));
        waited.unwrap();
    };
    node.wait_with(&first, both, || boot(&node, &first))
        .unwrap();
}

#[test]
fn a_scan_passes_over_who_does_not_answer_and_recovers_who_waits() {
    let node = Node::new("");
    let (closed, list) = (silent(), node.path("list"));
    let with = |addresses: &[&str]| {
        fs::write(&list, addresses.join("\n")).unwrap();
        Recover {
            nodes: Vec::new(),
            scan: Some(list.clone()),
            ..node.options()
        }
    };
    node.wait(|| {
        let error = recover(&with(&[&closed])).err().unwrap();
        assert_eq!(error.exit(), Exit::Temporary);
        assert!(
            error.to_string().contains("none of 1 addresses answers"),
            "{error}"
        );
        let answer = recover(&with(&[&closed, &node.address()])).unwrap();
        assert_eq!(
            (answer.text.as_str(), answer.exit),
            ("1 of 1 nodes recovered\n", None)
        );
        assert_eq!(answer.json["nodes"][0]["ek"], node.ek());
    })
    .unwrap();
    // One that is named has to answer.
    let named = Recover {
        nodes: vec![closed.clone()],
        ..with(&[&closed])
    };
    assert_eq!(recover(&named).unwrap().exit, Some(Exit::Temporary));
}
