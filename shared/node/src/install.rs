//! How RabbitMQ comes onto this machine, in one command.

use std::fs;

/// Of Debian, and of what is made from it.
const APT: &str = "sudo apt-get update && sudo apt-get install -y --no-install-recommends rabbitmq-server";
/// Of any other system; what packages are called there, and where they put their programs, differs.
const CONTAINER: &str = "docker run -d -p 127.0.0.1:5672:5672 rabbitmq:4 && export CREWFLEET__BROKER__URL=amqp://guest:guest@127.0.0.1:5672/%2f";

/// The command for this machine.
pub(crate) fn command() -> &'static str {
    command_of(&fs::read_to_string("/etc/os-release").unwrap_or_default())
}

/// By the text of `os-release(5)`.
fn command_of(os_release: &str) -> &'static str {
    let values = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")));
    let mut names = values.flat_map(|value| value.trim_matches(['"', '\'']).split(' '));
    match names.any(|name| name == "debian") {
        true => APT,
        false => CONTAINER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_system_is_told_what_it_has() {
        for (os_release, expected) in [
            ("PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n", APT),
            ("ID=ubuntu\nID_LIKE=debian\n", APT),
            ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", APT),
            ("ID=\"rhel\"\nID_LIKE=\"fedora\"\n", CONTAINER),
            ("", CONTAINER),
        ] {
            assert_eq!(command_of(os_release), expected, "{os_release}");
        }
    }
}
