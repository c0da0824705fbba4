//! `crewfleet check`: a configuration's crews, looked at without a broker.

use std::fs;
use std::path::Path;

use crewfleet_tests::broker::Namespace;
use crewfleet_tests::cli::Cli;
use crewfleet_tests::crews::{builtin_crew_toml, plain_crew_toml};
use serde_json::{Value, json};

/// Where nobody listens.
const NOWHERE: &str = "amqp://127.0.0.1:1/%2f";

#[tokio::test]
async fn each_crew_is_looked_at_without_a_broker_and_one_that_cannot_be_built_fails_the_check() {
    let cli = Cli::new(NOWHERE, &Namespace::new());
    fs::write(
        cli.dir().join("poet.py"),
        "class crew:\n    def kickoff(self, inputs):\n        return inputs[\"TOPIC\"]\n",
    )
    .unwrap();
    fs::write(cli.dir().join("broken.py"), "import there_is_no_such_module\n").unwrap();
    let write = |crews: &[String]| fs::write(cli.dir().join("fleet.toml"), crews.concat()).unwrap();
    let [poet, broken] =
        ["poet", "broken"].map(|name| plain_crew_toml(name, &format!("{name}:crew"), Path::new("."), 1));
    let check = ["--config", "fleet.toml", "check"];

    fs::write(cli.dir().join("inputs.json"), "{\n  \"title\": \"Echo\"\n}\n").unwrap();
    write(&[
        format!(
            "[crews.echo]\n{}inputs_schema = \"inputs.json\"\n",
            builtin_crew_toml("echo", 1)
        ),
        poet.clone(),
    ]);
    let said = cli.run(&check).await.success();
    assert!(said.contains("echo: usable\n  runner       builtin\n"), "{said}");
    assert!(
        said.contains("  schema       16 bytes of JSON Schema; --json has it\n"),
        "{said}"
    );
    assert!(said.contains("poet: usable\n  runner       python\n"), "{said}");
    let told: Value =
        serde_json::from_str(&cli.run(&[&check[..], &["--json"]].concat()).await.success()).unwrap();
    assert_eq!(told[0]["inputs_schema"], json!({"title": "Echo"}), "{told:#}");
    let poet_told = &told[1];
    assert_eq!(poet_told["inputs_schema"], Value::Null, "{told:#}");
    assert_eq!(
        (
            &poet_told["crew"],
            &poet_told["trouble"],
            &poet_told["isolation"],
            &poet_told["crewai"]
        ),
        (&json!("poet"), &Value::Null, &json!("fork"), &Value::Null),
        "{told:#}"
    );
    assert!(
        poet_told["python_version"].as_str().unwrap().starts_with("3."),
        "{told:#}"
    );

    // A crew that cannot be built is named with the key, the value and the reason; the others are told all the same.
    write(&[broken, poet]);
    let output = cli.run(&check).await.ended_with(1);
    let said = output.stdout.join("\n");
    for part in [
        "broken: cannot be built",
        "crews.broken.target",
        "fleet.toml",
        "No module named 'there_is_no_such_module'",
        "poet: usable",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }

    // What is wrong with the file itself is refused as at a start.
    write(&["[crews.a]\nrunner = \"builtin\"\ntimeout = 3\n".to_owned()]);
    cli.run(&check)
        .await
        .ended_with(2)
        .said(&["crews.a.timeout", "did you mean timeout_s?"]);
}
