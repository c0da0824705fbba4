//! A crew of one's own: where it is found, and what is told when it cannot run.

use super::*;

#[tokio::test]
async fn an_own_crew_runs_on_a_given_broker() {
    let place = Place::with_broker().await;
    place.write("code/own/__init__.py", "");
    place.write("code/own/crew.py", OWN_CREW);
    let target = ["--target", "own.crew:OwnCrew", "--path", "code"];

    let inputs = ["--once", "--input", "TOPIC=tea for two", "--input", "PLACE=Porto"];
    let dev = place.dev(&[&target[..], &inputs].concat());
    let output = dev.output().await.ended_with(0);
    let reply = last_json(&output);
    assert_eq!(
        (&reply["crew"], &reply["result"]["raw"]),
        (&"own".into(), &"heard say tea for two and Porto".into())
    );
    place.is_clean(&dev, &[".crewfleet", "code"]).await;
    assert_eq!(
        entries(&place.work().join("code/own")),
        ["__init__.py", "crew.py"].map(str::to_owned).into()
    );
    let made = entries(&place.work().join(".crewfleet/dev"));
    assert!(!made.contains("broker"), "no node of its own: {made:?}");

    // What went wrong is told once, though the worker's log says it, too.
    place.write(
        "code/bad.py",
        "class Bad:\n    def kickoff(self, inputs):\n        raise ValueError('no more')\n",
    );
    let bad = ["--once", "--target", "bad:Bad", "--path", "code"];
    let dev = place.plain_dev(&bad);
    let output = dev.output().await.ended_with(1);
    let told = |what: &str| output.stderr.iter().filter(|line| line.contains(what)).count();
    assert_eq!(told("failed: ValueError: no more"), 1, "{output:?}");
    assert_eq!(
        (told(" failed ("), told("    raise ValueError")),
        (0, 1),
        "{output:?}"
    );

    place.is_clean(&dev, &[".crewfleet", "code"]).await;
}

#[tokio::test]
async fn without_inputs_it_says_what_to_run_in_another_terminal() {
    let place = Place::with_broker().await;
    place.write("code/own/__init__.py", "");
    place.write("code/own/crew.py", OWN_CREW);
    let target = ["--target", "own.crew:OwnCrew", "--path", "code"];
    let dev = place.dev(&target);
    keeps_running(&dev).await;
    let command = "kickoff own --follow --input PLACE=... --input TOPIC=...";
    dev.stderr
        .first(command, |line| line.contains(command).then_some(()))
        .await;
    let said = dev.stderr.so_far().join("\n");
    assert!(
        !said.contains("export CREWFLEET__BROKER__URL"),
        "a given broker may have a password: {said}"
    );
    dev.signal(Signal::SIGTERM);
    assert_eq!(dev.exit().await.code(), Some(0));
    place.is_clean(&dev, &[".crewfleet", "code"]).await;
}

#[tokio::test]
async fn a_project_s_folder_needs_no_target() {
    let place = Place::with_broker().await;
    place.write(
        "pyproject.toml",
        "[project]\nname = \"Own-Project\"\n[project.scripts]\nrun_crew = \"own.main:run\"\n[tool.crewai]\ntype = \"crew\"\n",
    );
    place.write(".env", "PLACE_OF_ALL=Porto # where it rains\n");
    place.write("src/own/__init__.py", "");
    place.write("src/own/crew.py", OWN_CREW);
    // Not the one that the project's own script runs.
    place.write("src/own/other.py", OWN_CREW);
    place.write(
        "src/own/main.py",
        "import os\nfrom own.crew import OwnCrew\n\n\nPLACE = os.environ[\"PLACE_OF_ALL\"]\n\n\n\
         def run():\n    OwnCrew().crew().kickoff(inputs={\"TOPIC\": \"rain\", \"PLACE\": PLACE})\n",
    );
    let expected = [".crewfleet", ".env", "pyproject.toml", "src"];

    let inputs = [
        "--once",
        "-v",
        "--input",
        "TOPIC=tea for two",
        "--input",
        "PLACE=Porto",
    ];
    let dev = place.dev(&inputs);
    let output = dev.output().await.ended_with(0);
    output.said(&["task_started"]);
    let reply = last_json(&output);
    assert_eq!(
        (&reply["crew"], &reply["result"]["raw"]),
        (&"own-project".into(), &"heard say tea for two and Porto".into())
    );
    place.is_clean(&dev, &expected).await;

    // What the project's script does is no target: the refusal names the crew that it runs.
    let dev = place.dev(&["--once", "--target", "own.main:run"]);
    dev.output().await.ended_with(2).said(&[
        "--target \"own.main:run\"",
        "runs a crew itself (kickoff in",
        "and was not called",
        "use \"own.crew:OwnCrew\"",
    ]);
    place.is_clean(&dev, &expected).await;
}

#[tokio::test]
async fn missing_inputs_are_told_before_the_broker_is_started() {
    let place = Place::new();
    place.write("src/own/__init__.py", "");
    place.write("src/own/crew.py", OWN_CREW);
    let own = ["--once", "--target", "own.crew:OwnCrew", "--path", "src"];
    let none = place.dev(&own);
    let told = none.output().await.ended_with(2);
    // What there is to give, and what to run.
    let said = told.said(&[
        "needs the inputs PLACE, TOPIC",
        "crewfleet dev --once --target own.crew:OwnCrew --path src --input PLACE=... --input TOPIC=...",
    ]);
    assert!(!said.contains("private broker"), "{said}");
    let one = place.dev(&[&own[..], &["--input", "TOPIC=tea", "--input", "place=Porto"]].concat());
    let told = one.output().await.ended_with(6);
    let said = told.said(&[
        "the crew own needs the input PLACE; place was given: did you mean PLACE? Run: ",
        " --input PLACE=...",
    ]);
    assert!(!said.contains("private broker"), "{said}");
    let of_input = told.stderr.iter().filter(|line| line.contains("--input PLACE"));
    assert_eq!(of_input.count(), 1, "it is told once: {told:?}");
    assert!(!said.contains("Traceback"), "{said}");
    let made = entries(&place.work().join(".crewfleet/dev"));
    assert!(!made.contains("broker"), "{made:?}");
    place.is_clean(&one, &[".crewfleet", "src"]).await;
}

#[tokio::test]
async fn a_target_that_does_not_import_is_told() {
    let place = Place::with_broker().await;
    place.write("src/own/crew.py", "import there_is_no_such_module\n");
    let dev = place.plain_dev(&["--target", "own.crew:OwnCrew", "--path", "src"]);
    let output = dev.output().await.ended_with(2);
    output.said(&[
        "--target \"own.crew:OwnCrew\"",
        "import_failed",
        "there_is_no_such_module",
        "check target and path",
    ]);
    place.is_clean(&dev, &[".crewfleet", "src"]).await;
}

#[tokio::test]
async fn what_a_crew_needs_and_is_away_is_told_instead_of_waited_for() {
    let place = Place::with_broker().await;
    place.write(
        "src/own/crew.py",
        "def crew():\n    raise ConnectionError('its server is away')\n",
    );
    let dev = place.plain_dev(&["--target", "own.crew:crew", "--path", "src"]);
    let output = dev.output().await.ended_with(2);
    output.said(&[
        "--target \"own.crew:crew\"",
        "build_failed",
        "ConnectionError: its server is away (src/own/crew.py, line 2)",
    ]);
    let text = output.stderr.join("\n");
    assert!(
        text.find("its server is away") < text.find("nothing is left running"),
        "{text}"
    );
    assert!(!text.contains("check target and path"), "{text}");
    place.is_clean(&dev, &[".crewfleet", "src"]).await;
}

#[tokio::test]
async fn what_cannot_work_is_told_at_once() {
    let place = Place::with_broker().await;
    // None of these comes to a crew, so none needs CrewAI.
    for (arguments, code, expected) in [
        (vec!["--broker-url", "amqp://127.0.0.1:1/%2f"], 3, "127.0.0.1:1"),
        (vec!["--target", "own.crew"], 2, "there is no module \"own\""),
        (
            vec!["--target", "own.crew:C", "--path", "nowhere"],
            2,
            "--path nowhere: no such folder",
        ),
        (
            vec!["--python", "/no/such/python"],
            2,
            "--python /no/such/python: does not start",
        ),
        (vec!["--python", "/tmp"], 2, "--python /tmp: is a folder"),
    ] {
        let dev = place.plain_dev(&arguments);
        dev.output().await.ended_with(code).said(&[expected]);
        dev.descendants_gone().await;
    }
}

#[tokio::test]
async fn a_machine_without_rabbitmq_is_told_how_to_get_one_or_use_another() {
    let place = Place::new();
    let nowhere = [("CREWFLEET_RABBITMQ_BIN_DIR", "/no/such/folder")];
    let dev = place.dev_with(&crews::plain_python(), &["--once"], &nowhere);
    let output = dev.output().await.ended_with(3);
    output.said(&[
        "RabbitMQ is not installed: /no/such/folder/rabbitmq-server was not found. To install it: ",
        "CREWFLEET__BROKER__URL",
    ]);
    assert!(
        place.parts().iter().all(BTreeSet::is_empty),
        "{:?}",
        place.parts()
    );
}
