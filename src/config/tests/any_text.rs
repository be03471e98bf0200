//! Any text gives a configuration or an error of one line.

use std::path::Path;

use proptest::prelude::*;

use super::{CLUSTER, NODE, cluster, node, node_with};
use crate::config::{LocalAddress, RemoteAddress, yaml};
use crate::fuzz::{DRAWN_BYTES_MAX, mutated_text};

/// Texts near to YAML: its characters, our words, and anything else, so that some get far into the parser.
fn near_yaml() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("node:"),
        Just("cluster:"),
        Just("  id: "),
        Just("  nodes:"),
        Just("  seed: 0"),
        Just("remote_address: "),
        Just("  local_address: "),
        Just("  replica_count: "),
        Just("127.0.0.1:8001"),
        Just("\n"),
        Just("\n    "),
        Just("---"),
        Just("..."),
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(", "),
        Just("- "),
        Just("? "),
        Just(": "),
        Just("&a "),
        Just("*a"),
        Just("!!str "),
        Just("!<"),
        Just("%TAG ! "),
        Just("|\n"),
        Just(">-2\n"),
        Just("\""),
        Just("'"),
        Just("\\x"),
        Just("\\u00"),
        Just("#"),
        Just("\t"),
        Just("\r"),
        Just("\u{feff}"),
        Just("\u{0}"),
        Just("\u{85}"),
        Just("é"),
        Just("1"),
        Just("~"),
        Just("<<: "),
    ];
    let words = prop::collection::vec(word, 0..40).prop_map(|words| words.concat());
    prop_oneof![words, any::<String>(), "\\PC{0,80}"]
}

/// A valid file with a few characters replaced.
fn damaged(text: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec((0..text.len(), any::<prop::sample::Index>()), 1..5).prop_map(move |changes| {
        const CHARACTERS: &[u8] = b"\n \t:{}[]\"'#&*!|>%@`-?,0a~\\\0";
        let mut bytes = text.as_bytes().to_vec();
        for (at, index) in changes {
            bytes[at] = CHARACTERS[index.index(CHARACTERS.len())];
        }
        String::from_utf8(bytes).expect("the file and the characters are ASCII")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gives_a_tree_or_one_line(text in near_yaml()) {
        if let Err(error) = yaml::parse(Path::new("x.yml"), &text, "node") {
            prop_assert!(!error.to_string().contains(['\n', '\r']), "{error:?}");
        }
    }

    #[test]
    fn any_node_file_gives_a_config_or_one_line(text in prop_oneof![damaged(NODE), near_yaml()]) {
        if let Err(error) = node(&text) {
            prop_assert!(!error.to_string().contains(['\n', '\r']), "{error:?}");
        }
    }

    #[test]
    fn any_cluster_file_gives_a_config_or_one_line(text in prop_oneof![damaged(CLUSTER), near_yaml()]) {
        match cluster(&text) {
            Ok(config) => prop_assert!((1..=config.addresses.len()).contains(&config.parameters.replica_count)),
            Err(error) => prop_assert!(!error.to_string().contains(['\n', '\r']), "{error:?}"),
        }
    }

    #[test]
    fn any_variables_give_a_config_or_one_line(name in "QUORATE_NODE_(ID|DATA_DIR|DURABILITY|\\PC{0,12})", value: String) {
        if let Err(error) = node_with(NODE, &[(&name, &value)]) {
            prop_assert!(!error.to_string().contains(['\n', '\r']), "{error:?}");
        }
    }

    #[test]
    fn any_address_that_is_accepted_is_shown_as_it_is_read(text in "[a-z0-9.:\\[\\]_-]{1,12}:[0-9]{1,6}|\\PC{0,20}") {
        if let Some(address) = RemoteAddress::parse(&text) {
            prop_assert_eq!(RemoteAddress::parse(&address.to_string()), Some(address));
        }
        if let Some(address) = LocalAddress::parse(&text) {
            prop_assert_eq!(LocalAddress::parse(&address.to_string()), Some(address));
            prop_assert!(address.port() > 0);
        }
    }
}

#[test]
fn fuzz_files_of_configuration() {
    let seeds = [
        NODE,
        CLUSTER,
        include_str!("../../../examples/3-local-nodes/node-1.yml"),
        include_str!("../../../examples/3-local-nodes/cluster.yml"),
        "node: { id: !!str 1, local_address: &a \":8001\", data_dir: *a }\n---\n",
        "cluster:\n  nodes:\n    ? 1\n    : |-\n      x\n  seed: [[[0]]]\n",
    ];
    bolero::check!().with_max_len(DRAWN_BYTES_MAX).for_each(|bytes: &[u8]| {
        let text = mutated_text(&seeds, bytes);
        let errors = [node(&text).err(), cluster(&text).err()];
        for error in errors.into_iter().flatten() {
            assert!(!error.to_string().contains(['\n', '\r']), "{text:?}: {error:?}");
        }
    });
}
