// SPDX-License-Identifier: Apache-2.0

use super::*;

const NODE: &str = "1f";
const NONCE: [u8; NONCE_LEN] = [7; NONCE_LEN];

fn message() -> Message {
    Message {
        version: VERSION,
        node: NODE.into(),
        nonce: Bytes(NONCE.to_vec()),
        said_s: 1_700_000_000,
        volumes: vec![PushedVolume {
            uuid: "a6c7535f-0a9f-4c23-9524-fed431126906".into(),
            key: Some(PushedKey(Secret::new(vec![3; 32]))),
            words: vec![Word::Readmit],
            key_id: Some("ab".into()),
            epoch: Some(4),
        }],
    }
}

fn text(message: &Message) -> Vec<u8> {
    frame(message).unwrap()[PREFIX_LEN..].to_vec()
}

fn refusal(message: &Message) -> String {
    Message::parse(&text(message), NODE, &NONCE)
        .unwrap_err()
        .to_string()
}

#[test]
fn a_push_comes_back_as_it_was_said() {
    let bytes = text(&message());
    let back = Message::parse(&bytes, NODE, &NONCE).unwrap();
    assert_eq!(back.volumes[0].key.as_ref().unwrap().0.expose(), [3; 32]);
    assert_eq!(back.volumes[0].words, [Word::Readmit]);
    assert_eq!(text(&back), bytes);
}

#[test]
fn a_push_for_another_node_connection_or_version_is_refused() {
    let other = |change: fn(&mut Message)| {
        let mut message = message();
        change(&mut message);
        refusal(&message)
    };
    for (change, why) in [
        (
            (|it| it.node = "2f".into()) as fn(&mut Message),
            "the message is for node 2f, and this is 1f",
        ),
        (|it| it.nonce.0[0] ^= 1, "what was said once counts once"),
        (|it| it.nonce.0.truncate(31), "reading a nonce"),
        (|it| it.version = 2, "found 2"),
        (|it| it.volumes.clear(), "expected 1 to 16 volumes, found 0"),
        (
            |it| it.volumes.extend(message().volumes),
            "volume a6c7535f-0a9f-4c23-9524-fed431126906 is there twice",
        ),
    ] {
        let said = other(change);
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn a_word_that_is_not_known_is_refused_and_no_key_is_quoted() {
    let text = String::from_utf8(text(&message())).unwrap();
    for other in [
        text.replace("readmit", "anything"),
        text.replace("said-s", "said"),
        text.replacen('{', "{\"more\":1,", 1),
    ] {
        let error = Message::parse(other.as_bytes(), NODE, &NONCE).unwrap_err();
        assert!(error.to_string().starts_with("expected a push"), "{error}");
        assert!(!error.to_string().contains("AwMD"), "{error}");
    }
}

#[test]
fn a_length_is_judged_before_anything_is_read() {
    let bytes = frame(&message()).unwrap();
    let prefix = *bytes.first_chunk().unwrap();
    assert_eq!(
        len_of(prefix, TO_NODE_LEN_MAX).unwrap(),
        bytes.len() - PREFIX_LEN
    );
    assert_eq!(
        len_of(*b"\0\0\x80\0", TO_NODE_LEN_MAX).unwrap(),
        TO_NODE_LEN_MAX
    );
    len_of(*b"\0\0\x80\x01", TO_NODE_LEN_MAX).unwrap_err();
    len_of([0xff; 4], TO_OPERATOR_LEN_MAX).unwrap_err();
}

#[test]
fn a_quote_is_about_both_nonces_and_the_key_of_the_connection() {
    let of = |first, key, second| qualifying(&[first; 32], &[key; 32], &[second; 32]);
    let good = of(1, 2, 3);
    for other in [of(9, 2, 3), of(1, 9, 3), of(1, 2, 9), of(2, 1, 3)] {
        assert_ne!(good, other);
    }
    // `printf 'nightlatch recover 1\0'` and 32 bytes each of 1, 2 and 3, by sha256sum.
    assert_eq!(
        hex::encode(good),
        "04935710f49ef37ce7da6dc3a73211856d8f4d559b6307e71de7582119bc7bad"
    );
}
