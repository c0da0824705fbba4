//! The committed JSON Schemas and the AsyncAPI document are those of the code.
//!
//! After you change the contract on purpose, write them anew:
//! `UPDATE_SCHEMAS=1 cargo test -p crewfleet-protocol --test schemas`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod asyncapi;

use std::{fs, path::Path};

use serde::Serialize;

/// Compares a committed file with what the code generates; with `UPDATE_SCHEMAS`, writes it first.
fn assert_committed(name: &str, generated: &impl Serialize) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas").join(name);
    let generated = serde_json::to_string_pretty(generated).unwrap() + "\n";
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        fs::write(&file, &generated).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    assert_eq!(committed, generated, "{} differs from the code", file.display());
}

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    for (name, schema) in crewfleet_protocol::schema::all() {
        assert_committed(&format!("{name}.json"), &schema);
    }
}

#[test]
fn the_committed_asyncapi_document_is_that_of_the_topology() {
    assert_committed("asyncapi.json", &asyncapi::document());
}

/// A message of the contract that no operation sends or receives is one that the document forgot.
#[test]
fn every_type_of_message_is_sent_and_received() {
    let document = asyncapi::document();
    let operations: Vec<_> = document["operations"].as_object().unwrap().values().collect();
    for (name, _) in document["components"]["messages"].as_object().unwrap() {
        for action in ["send", "receive"] {
            let moved = operations.iter().any(|operation| {
                operation["action"] == action
                    && operation["messages"].as_array().unwrap().iter().any(|message| {
                        message["$ref"]
                            .as_str()
                            .unwrap()
                            .ends_with(&format!("/messages/{name}"))
                    })
            });
            assert!(moved, "no operation of the document has to {action} {name}");
        }
    }
}
