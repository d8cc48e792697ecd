//! A real strongSwan in a namespace: `charon-systemd` with its user-space ESP, told what to do
//! over VICI by `swanctl`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::lab::Namespace;
use crate::net::eventually;

/// Where Debian puts it.
const CHARON: &str = "/usr/sbin/charon-systemd";

/// One connection of a strongSwan, as swanctl.conf has it, with one child by the name `net`.
#[derive(Clone, Debug)]
pub struct SwanConnection {
    /// Its name.
    pub name: String,
    /// Lines of the connection's section, with sections of their own if need be.
    pub lines: String,
    /// Children: name and lines.
    pub children: Vec<(String, String)>,
}

/// What a strongSwan is started with.
#[derive(Clone, Debug, Default)]
pub struct SwanBuilder {
    connections: Vec<SwanConnection>,
    secrets: String,
    settings: String,
    files: Vec<(String, String)>,
    plugins: Option<String>,
}

impl SwanBuilder {
    /// A connection more.
    #[must_use]
    pub fn connection(mut self, connection: SwanConnection) -> Self {
        self.connections.push(connection);
        self
    }

    /// A preshared key between two identities.
    #[must_use]
    pub fn psk(mut self, one: &str, other: &str, secret: &str) -> Self {
        let number = self.secrets.matches("ike-").count() + 1;
        let _ = write!(
            self.secrets,
            " ike-{number} {{\n  id-a = {one}\n  id-b = {other}\n  secret = \"{secret}\"\n }}\n"
        );
        self
    }

    /// A post-quantum preshared key (RFC 8784).
    #[must_use]
    pub fn ppk(mut self, id: &str, secret: &str) -> Self {
        let number = self.secrets.matches("ppk-").count() + 1;
        let _ =
            write!(self.secrets, " ppk-{number} {{\n  id = {id}\n  secret = \"{secret}\"\n }}\n");
        self
    }

    /// Lines of strongswan.conf's `charon-systemd` section, one setting a line.
    #[must_use]
    pub fn settings(mut self, lines: &str) -> Self {
        self.settings.push_str(lines);
        self.settings.push('\n');
        self
    }

    /// A file below its `swanctl` folder: `x509/edge.pem`, `private/edge.pem`, `x509ca/ca.pem`.
    #[must_use]
    pub fn file(mut self, name: &str, content: &str) -> Self {
        self.files.push((name.to_owned(), content.to_owned()));
        self
    }

    /// Its plugins in place of the usual ones.
    #[must_use]
    pub fn plugins(mut self, list: &str) -> Self {
        self.plugins = Some(list.to_owned());
        self
    }

    /// Starts it, and waits until its connections are loaded.
    #[track_caller]
    pub fn start(&self, namespace: &Namespace) -> StrongSwan {
        let folder = TempDir::new().unwrap();
        self.write(folder.path());
        let mut swan = StrongSwan { namespace: namespace.clone(), folder, process: None };
        swan.start();
        swan
    }

    fn write(&self, folder: &Path) {
        let swanctl = folder.join("swanctl");
        fs::create_dir_all(&swanctl).unwrap();
        for (name, content) in &self.files {
            let path = swanctl.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let plugins = self.plugins.as_deref().unwrap_or(
            "random nonce openssl aes des sha1 sha2 hmac kdf gcm chapoly curve25519 pem pkcs1 \
             pkcs8 x509 pubkey revocation constraints kernel-libipsec kernel-netlink \
             socket-default vici updown counters",
        );
        let (place, settings) = (folder.display(), &self.settings);
        let text = format!(
            "charon-systemd {{\n\
             load = {plugins}\n\
             install_virtual_ip = no\n\
             retransmit_timeout = 1\n\
             retransmit_tries = 3\n\
             {settings}\n\
             plugins {{\n\
             vici {{\nsocket = unix://{place}/vici\n}}\n\
             kernel-libipsec {{\nallow_peer_ts = yes\n}}\n\
             kernel-netlink {{\nfwmark = !0x42\n}}\n\
             socket-default {{\nfwmark = 0x42\n}}\n\
             }}\n\
             filelog {{\ncharon {{\npath = {place}/log\ndefault = 1\nike = 2\ncfg = 2\nappend = yes\nflush_line = yes\n}}\n}}\n\
             journal {{\ndefault = -1\n}}\n\
             }}\n\
             swanctl {{\nload = pem pkcs1 pkcs8 x509 pubkey openssl random nonce sha1 sha2\n}}\n"
        );
        fs::write(folder.join("strongswan.conf"), text).unwrap();
        let mut text = "connections {\n".to_owned();
        for SwanConnection { name, lines, children } in &self.connections {
            let _ = write!(text, " {name} {{\n{lines}\n  children {{\n");
            for (name, lines) in children {
                let _ = write!(text, "   {name} {{\n{lines}\n   }}\n");
            }
            text.push_str("  }\n }\n");
        }
        let _ = write!(text, "}}\nsecrets {{\n{}}}\n", self.secrets);
        fs::write(swanctl.join("swanctl.conf"), text).unwrap();
    }
}

/// It, running. It is killed when this is dropped.
#[derive(Debug)]
pub struct StrongSwan {
    namespace: Namespace,
    folder: TempDir,
    process: Option<Child>,
}

impl StrongSwan {
    /// What it is to be started with.
    pub fn builder() -> SwanBuilder {
        SwanBuilder::default()
    }

    fn environment(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("STRONGSWAN_CONF", self.folder.path().join("strongswan.conf"))
            .env("SWANCTL_DIR", self.folder.path().join("swanctl"))
            .stdin(Stdio::null());
        command
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("vici")
    }

    /// Starts it after [`Self::kill`].
    #[track_caller]
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "strongSwan runs already");
        _ = fs::remove_file(self.socket());
        let mut command = self.environment(CHARON);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = self.namespace.spawn(&mut command).unwrap_or_else(|error| {
            panic!("{CHARON} can't be started ({error}): install charon-systemd (scripts/deps.sh)")
        });
        self.process = Some(child);
        eventually("strongSwan listens", || self.socket().exists().then_some(()));
        self.swanctl(&["--load-all"]);
    }

    /// Ends it at once, with no word to its peers.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            _ = process.kill();
            _ = process.wait();
        }
    }

    /// Its process's number.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Runs `swanctl`; it must succeed. Answers what it printed.
    #[track_caller]
    pub fn swanctl(&self, arguments: &[&str]) -> String {
        self.try_swanctl(arguments)
            .unwrap_or_else(|error| panic!("swanctl {arguments:?}: {error}\n{}", self.log()))
    }

    /// Runs `swanctl`.
    ///
    /// # Errors
    /// What it printed, where it fails.
    pub fn try_swanctl(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = self.environment("swanctl");
        let uri = format!("unix://{}", self.socket().display());
        command.args(arguments).args(["--uri", &uri]);
        let output = self.namespace.run(|| command.output()).map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(text),
            false => Err(text + &String::from_utf8_lossy(&output.stderr)),
        }
    }

    /// Its SAs, as `swanctl --list-sas` has them.
    #[track_caller]
    pub fn sas(&self) -> String {
        self.swanctl(&["--list-sas"])
    }

    /// How many child SAs it has installed.
    #[track_caller]
    pub fn installed(&self) -> usize {
        self.sas().matches("INSTALLED").count()
    }

    /// What it has logged since its first start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for StrongSwan {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("strongSwan's log:\n{}", self.log());
        }
    }
}
