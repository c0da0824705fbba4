use std::{
    ffi::OsString,
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::error::NodeError;
use super::ports::Ports;

/// How much of the end of the log is read for its last lines, in bytes.
const LOG_TAIL_BYTES: u64 = 32 * 1024;
const LOG_TAIL_LINES: usize = 60;

/// What every private node is configured with; `NodeOptions::config` comes after it, and wins.
const CONFIG: &str = "\
# Written at each start of this private node.
# A write-ahead log of 64 MiB in place of 512: it is held in memory too.
raft.wal_max_size_bytes = 67108864
";

/// The folder of a node: data, log, cookie and configuration.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

const SCHEDULERS: &str = "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none";

impl Folder {
    /// Makes what is missing. Data, and the cookie that goes with it, stay as they are.
    pub(super) fn prepare(path: &Path) -> Result<Self, NodeError> {
        make_dir(path)?;
        // The node's own scripts change directory: only an absolute path means the same everywhere.
        let path = fs::canonicalize(path).map_err(failed("resolve", path))?;
        let folder = Self { path };
        make_dir(&folder.home())?;
        folder.make_cookie()?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `rabbitmq.conf` and the list of plugins.
    pub(super) fn configure(&self, lines: &[String], plugins: &[String]) -> Result<(), NodeError> {
        self.write("enabled_plugins", &format!("[{}].\n", plugins.join(",")))?;
        self.write("rabbitmq.conf", &format!("{CONFIG}{}\n", lines.join("\n")))
    }

    /// The whole environment of the node and of its command line tools, but for `PATH`. Nothing else is inherited, so
    /// that the settings of a system-wide RabbitMQ cannot leak in.
    pub(super) fn environment(
        &self,
        name: &str,
        ports: &Ports,
        epmd_port: u16,
        erl_arguments: &str,
    ) -> Vec<(&'static str, OsString)> {
        let file = |name: &str| self.path.join(name).into_os_string();
        let text = |value: String| OsString::from(value);
        let loopback = "-kernel inet_dist_use_interface {127,0,0,1}";
        vec![
            ("HOME", self.home().into_os_string()),
            ("LANG", "C.UTF-8".into()),
            ("ERL_CRASH_DUMP_SECONDS", "0".into()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
            ("ERL_EPMD_PORT", text(epmd_port.to_string())),
            ("RABBITMQ_CONF_ENV_FILE", file("there-is-no-rabbitmq-env.conf")),
            ("RABBITMQ_NODENAME", text(format!("{name}@localhost"))),
            ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1".into()),
            ("RABBITMQ_NODE_PORT", text(ports.amqp.to_string())),
            ("RABBITMQ_DIST_PORT", text(ports.distribution.to_string())),
            // 0: the kernel chooses, so that any number of commands may run at once.
            ("RABBITMQ_CTL_DIST_PORT_MIN", "0".into()),
            ("RABBITMQ_CTL_DIST_PORT_MAX", "0".into()),
            ("RABBITMQ_CTL_ERL_ARGS", loopback.into()),
            // Two schedulers are enough for a private node on any machine, and keep its memory small. They do not spin while
            // they wait for work: a node that many clients keep half busy takes a tenth less of the machine then.
            (
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
                text(format!("{SCHEDULERS} {loopback}{erl_arguments}")),
            ),
            ("RABBITMQ_MNESIA_BASE", file("mnesia")),
            ("RABBITMQ_LOG_BASE", file("log")),
            // To stdout, which is node.log: one place for what the scripts, the VM and the broker say.
            ("RABBITMQ_LOGS", "-".into()),
            ("RABBITMQ_PID_FILE", file("node.pid")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins")),
            ("RABBITMQ_FEATURE_FLAGS_FILE", file("feature_flags")),
            ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
            (
                "RABBITMQ_ADVANCED_CONFIG_FILE",
                file("there-is-no-advanced.config"),
            ),
            ("RABBITMQ_GENERATED_CONFIG_DIR", file("generated")),
            ("RABBITMQ_SCHEMA_DIR", file("schema")),
        ]
    }

    /// The last lines of the log, or why there are none.
    pub(super) fn log_tail(&self) -> String {
        let path = self.log();
        match read_end(&path) {
            Ok(text) => {
                let lines: Vec<&str> = text.lines().collect();
                lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
            }
            Err(error) => format!("(could not read {}: {error})", path.display()),
        }
    }

    /// The file of the log.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("node.log")
    }

    fn home(&self) -> PathBuf {
        self.path.join("home")
    }

    /// Whoever has the cookie may run code in the node, so it is random, and only the owner may read it.
    fn make_cookie(&self) -> Result<(), NodeError> {
        let path = self.home().join(".erlang.cookie");
        let created = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o400)
            .open(&path);
        match created {
            Ok(mut file) => {
                let cookie = uuid::Uuid::now_v7().simple().to_string();
                file.write_all(cookie.as_bytes()).map_err(failed("write", &path))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(failed("create", &path)(error)),
        }
    }

    /// Writes another cookie in place of the folder's own.
    pub(super) fn set_cookie(&self, cookie: &str) -> Result<(), NodeError> {
        let path = self.home().join(".erlang.cookie");
        fs::remove_file(&path)
            .and_then(|()| {
                OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o400)
                    .open(&path)
            })
            .and_then(|mut file| file.write_all(cookie.as_bytes()))
            .map_err(failed("write", &path))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), NodeError> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(failed("write", &path))
    }
}

fn make_dir(path: &Path) -> Result<(), NodeError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("create", path))
}

fn read_end(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).into_owned())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NodeError {
    let path = path.to_owned();
    move |source| NodeError::Folder { action, path, source }
}
