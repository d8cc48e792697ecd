//! An nginx of a test's own that speaks HTTP/2 and logs every request.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::shared::PATIENCE;

/// A running nginx, ended when dropped.
pub(crate) struct Nginx {
    process: Child,
    folder: tempfile::TempDir,
    /// HTTP/2 in the clear, with prior knowledge.
    pub(crate) clear: SocketAddr,
    /// HTTP/2 over TLS.
    pub(crate) tls: SocketAddr,
}

impl Nginx {
    /// One that listens.
    pub(crate) fn start() -> Self {
        // nginx takes no port 0; the ports are free at this moment, and others are tried if
        // somebody was faster.
        let started = (0..10).find_map(|_| {
            let folder = tempfile::tempdir().expect("a folder");
            let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
            let [clear, tls] =
                free.each_ref().map(|listener| listener.local_addr().expect("an address"));
            drop(free);
            let process = launch(folder.path(), clear, tls)?;
            Some(Self { process, folder, clear, tls })
        });
        started.expect("nginx starts: install it with scripts/deps.sh")
    }

    /// Ends it when all requests are answered, and returns its access log: version, status and
    /// ALPN's protocol of each.
    pub(crate) fn log(mut self) -> Vec<String> {
        self.signal(Signal::SIGQUIT);
        self.process.wait().expect("an end");
        let log = fs::read_to_string(self.folder.path().join("access.log")).expect("a log");
        log.lines().map(str::to_owned).collect()
    }

    fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.process.id().cast_signed()), signal);
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            // The master process ends its worker when it is asked, not when it is killed.
            self.signal(Signal::SIGTERM);
            let _ = self.process.wait();
        }
    }
}

fn launch(folder: &Path, clear: SocketAddr, tls: SocketAddr) -> Option<Child> {
    let at = folder.display();
    // Its worker is another user where the tests run as root.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("a folder");
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::write(folder.join("cert.pem"), pair.cert.pem()).expect("a file");
    fs::write(folder.join("key.pem"), pair.signing_key.serialize_pem()).expect("a file");
    let config = format!(
        "daemon off; pid {at}/pid; error_log {at}/error.log; worker_processes 1;\n\
         events {{ worker_connections 64; }}\n\
         http {{ log_format counted '$server_protocol $status $ssl_alpn_protocol';\n\
         access_log {at}/access.log counted; keepalive_requests 100000000;\n\
         client_body_temp_path {at}/b; proxy_temp_path {at}/p;\n\
         fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
         ssl_certificate {at}/cert.pem; ssl_certificate_key {at}/key.pem;\n\
         server {{ listen {clear} http2; listen {tls} ssl http2; return 200 hello; }} }}\n"
    );
    let path = folder.join("nginx.conf");
    fs::write(&path, config).expect("a file");
    let mut process = Command::new("nginx")
        .arg("-c")
        .arg(&path)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx: install it with scripts/deps.sh");
    let deadline = Instant::now() + PATIENCE;
    // It writes its number once it has its ports.
    while !folder.join("pid").exists() && Instant::now() < deadline {
        if process.try_wait().expect("a child").is_some() {
            return None;
        }
        std::thread::yield_now();
    }
    Some(process)
}
