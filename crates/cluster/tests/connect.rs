//! The way to the API, where something is the matter with it.

#![allow(clippy::unwrap_used, clippy::panic)] // reason: a test fails by panicking

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::{Double, Options, User};
use cluster::access::{self, Need};
use cluster::watch::{self, Pace, What};
use cluster::{Cluster, Kind};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const DEADLINE: Duration = Duration::from_secs(30);
/// What `check` has to answer within.
const SOON: Duration = Duration::from_secs(5);

struct Kubeconfig {
    folder: tempfile::TempDir,
}

impl Kubeconfig {
    fn new(server: &str, token: &str, more: &str) -> Self {
        let kubeconfig = Self { folder: tempfile::tempdir().unwrap() };
        kubeconfig.write(server, token, more);
        kubeconfig
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    fn write(&self, server: &str, token: &str, more: &str) {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: one\ncontexts:\n\
             - {{name: one, context: {{cluster: here, user: me}}}}\nclusters:\n\
             - {{name: here, cluster: {{server: '{server}'{more}}}}}\nusers:\n\
             - {{name: me, user: {{token: {token}}}}}\n"
        );
        std::fs::write(self.path(), text).unwrap();
    }

    async fn connect(&self) -> Cluster {
        let options = cluster::Options {
            kubeconfig: Some(self.path()),
            agent: "tidegate-test/0".to_owned(),
            field: "source.kubernetes".to_owned(),
            ..cluster::Options::default()
        };
        cluster::connect(&options).await.unwrap()
    }

    /// Why the API can't be asked; told soon.
    async fn reason(&self) -> String {
        let cluster = self.connect().await;
        let need = Need::to_read(&What::agent("mine").kinds[0], "list");
        let began = Instant::now();
        let reason = access::missing(&cluster.client, &[need]).await.unwrap_err().to_string();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let what = What::agent("mine");
        let mut watching =
            watch::start(cluster.client, what, Pace::default(), &tasks, stop.clone());
        let told = watching.answers(SOON).await.unwrap_err();
        stop.cancel();
        assert!(reason.contains(&told), "{reason} and {told}");
        assert!(began.elapsed() < 2 * SOON, "{:?}", began.elapsed());
        told
    }
}

fn strict() -> Double {
    let users = vec![User { name: "me".to_owned(), token: "right".to_owned() }];
    Double::start(Options { users, tokens_only: true, ..Options::default() }).unwrap()
}

#[track_caller]
fn has(reason: &str, words: &[&str]) {
    for word in words {
        assert!(reason.contains(word), "{reason:?} lacks {word:?}");
    }
}

#[tokio::test]
async fn refused_credentials_are_named_with_their_file_and_new_ones_are_taken_up() {
    let double = strict();
    let kubeconfig = Kubeconfig::new(&double.url(), "wrong", "");
    let path = kubeconfig.path().display().to_string();
    has(&kubeconfig.reason().await, &["401", &path, "the user of its current context"]);

    let cluster = kubeconfig.connect().await;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let mut watching =
        watch::start(cluster.client, What::gateway(&[]), Pace::default(), &tasks, stop.clone());
    assert!(watching.answers(SOON).await.is_err());
    let before = double.counters().iter().map(|counter| counter.count).sum::<u64>();
    kubeconfig.write(&double.url(), "right", "");
    let synced = tokio::time::timeout(DEADLINE, watching.first()).await;
    assert!(synced.unwrap(), "the new token is taken up");
    stop.cancel();
    // It isn't asked all the time: each kind once, and then one at a time, more and more slowly.
    assert!(before < 60, "{before} requests");
}

#[tokio::test]
async fn a_refused_connection_an_unknown_name_and_silence_are_told_apart() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let kubeconfig = Kubeconfig::new(&format!("http://{gone}"), "t", "");
    has(&kubeconfig.reason().await, &["connection is refused", &gone.to_string()]);
    // No resolver is asked for a label that is too long.
    let name = "a".repeat(70);
    let kubeconfig = Kubeconfig::new(&format!("http://{name}:6443"), "t", "");
    has(&kubeconfig.reason().await, &["DNS", &name]);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", silent.local_addr().unwrap());
    let kubeconfig = Kubeconfig::new(&url, "t", ", insecure-skip-tls-verify: true");
    has(&kubeconfig.reason().await, &["no connection to", &url]);
}

#[tokio::test]
async fn a_server_of_another_ca_and_one_without_tls_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let [ours, theirs] = [(); 2].map(|()| {
        let names = vec!["127.0.0.1".to_owned()];
        rcgen::generate_simple_self_signed(names).unwrap()
    });
    let authority = folder.path().join("ca.crt");
    std::fs::write(&authority, ours.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(theirs.signing_key.serialize_der());
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![theirs.cert.der().clone()], key.unwrap())
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = Arc::new(server);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut session = rustls::ServerConnection::new(Arc::clone(&server)).unwrap();
            // The client breaks it off.
            let _ = session.complete_io(&mut stream.unwrap());
        }
    });
    let more = format!(", certificate-authority: {}", authority.display());
    let kubeconfig = Kubeconfig::new(&url, "t", &more);
    let path = kubeconfig.path().display().to_string();
    has(&kubeconfig.reason().await, &["isn't trusted", &url, &path, "certificate-authority"]);

    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", plain.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in plain.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let kubeconfig = Kubeconfig::new(&url, "t", ", insecure-skip-tls-verify: true");
    has(&kubeconfig.reason().await, &["doesn't speak TLS"]);
}

#[tokio::test]
async fn where_nothing_is_allowed_each_right_is_named() {
    let users = vec![User { name: "me".to_owned(), token: "right".to_owned() }];
    let double = Double::start(Options { users, rbac: true, ..Options::default() }).unwrap();
    let kubeconfig = Kubeconfig::new(&double.url(), "right", "");
    let cluster = kubeconfig.connect().await;
    let what = What::agent("mine");
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let missing = access::missing(&cluster.client, &what.needs()).await.unwrap();
    assert_eq!(missing, what.needs());
    assert!(missing.iter().any(|need| need.name.as_deref() == Some("mine")));
    let mut watching = watch::start(cluster.client, what, Pace::default(), &tasks, stop.clone());
    let first = tokio::time::timeout(SOON, watching.first()).await;
    assert!(first.unwrap(), "what isn't allowed isn't waited for");
    assert!(watching.state.borrow().kinds[&Kind::Node].denied);
    stop.cancel();
    assert!(Path::new(&kubeconfig.path()).exists());
}
