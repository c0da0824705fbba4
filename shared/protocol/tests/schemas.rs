//! The committed JSON Schemas are those of the types.
//!
//! After a wanted change of the contract: `UPDATE_SCHEMAS=1 cargo test -p crewfleet-protocol --test schemas`.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, path::Path};

#[test]
fn the_committed_schemas_are_those_of_the_types() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    for (name, schema) in crewfleet_protocol::schema::all() {
        let file = dir.join(format!("{name}.json"));
        let generated = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            fs::write(&file, &generated).unwrap();
        }
        let committed = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert_eq!(committed, generated, "{} differs from its type", file.display());
    }
}
