//! The double as tests hold it: started in a thread of its own, its objects at hand.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Denial, User};
use crate::admit;
use crate::faults::{Counter, Effect, Fault, Faults, Gone};
use crate::kinds::Kind;
use crate::listen;
use crate::manifest::{self, LoadError};
use crate::object::{self, key};
use crate::refusal::Refusal;
use crate::serve::Shared;
use crate::store::Store;

/// How a double is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 is any free one.
    pub listen: SocketAddr,
    /// Who may come with which token. Without a token everything is allowed that isn't denied.
    pub users: Vec<User>,
    /// Whether requests without a known token are refused (401).
    pub tokens_only: bool,
    /// Whether Roles and their bindings are enforced for users with a token.
    pub rbac: bool,
    /// What kubeconfigs name as the server, where that isn't the address it listens on.
    pub advertise: Option<String>,
    /// How many changes are kept for each resource.
    pub history: usize,
    /// How often watches get a bookmark.
    pub bookmark_every: Duration,
    /// Whether objects are created only in namespaces that exist, as a real server has it.
    pub namespaces_must_exist: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            users: Vec::new(),
            tokens_only: false,
            rbac: false,
            advertise: None,
            history: 50_000,
            bookmark_every: Duration::from_secs(5),
            namespaces_must_exist: true,
        }
    }
}

/// What keeps a double from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It can't listen.
    #[error("listening on {address}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// No thread or runtime.
    #[error("starting: {0}")]
    Start(#[from] io::Error),
}

/// A running double. It ends when this is dropped.
#[derive(Debug)]
pub struct Double {
    address: SocketAddr,
    advertise: Option<String>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// A kind and where one of its objects lies.
type Place = (Arc<Kind>, String);

impl Double {
    /// Starts one, with a thread and runtime of its own, in the caller's network namespace.
    ///
    /// # Errors
    /// It can't listen or start its thread.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let listening = |error| StartError::Listen { address: options.listen, error };
        let listener = std::net::TcpListener::bind(options.listen).map_err(listening)?;
        listener.set_nonblocking(true).map_err(listening)?;
        let address = listener.local_addr().map_err(listening)?;
        let store = Arc::new(Store::new(options.history));
        let shared = Arc::new(Shared {
            access: Access::new(
                options.users,
                options.tokens_only,
                options.rbac.then(|| store.clone()),
            ),
            store,
            faults: Arc::new(Faults::default()),
            bookmark_every: options.bookmark_every,
        });
        shared.store.lock().namespaces_must_exist = options.namespaces_must_exist;
        let stop = CancellationToken::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (serving, stopped) = (shared.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("apiserver".to_owned()).spawn(move || {
            runtime.block_on(listen::run(listener, address, serving, stopped));
        })?;
        let advertise = options.advertise;
        let double = Self { address, advertise, shared, stop, thread: Some(thread) };
        double.begin();
        Ok(double)
    }

    /// What a fresh cluster has: its namespaces, and the kinds that Tidegate's definitions define.
    fn begin(&self) {
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            self.ensure_namespace(name);
        }
        for definition in ingest::crds::definition::definitions() {
            self.put(definition).expect("invariant: the own definitions are served");
        }
        for definition in crate::calico::definitions() {
            self.put(definition).expect("invariant: Calico's definitions are served");
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS`, or what is to be advertised.
    pub fn url(&self) -> String {
        self.advertise.clone().unwrap_or_else(|| format!("http://{}", self.address))
    }

    /// A kubeconfig (JSON, which is YAML) for a user, or for one without a token.
    pub fn kubeconfig(&self, user: Option<&str>) -> String {
        let token = user.and_then(|user| self.shared.access.token(user));
        let who = user.unwrap_or("admin");
        let identity = token.map_or_else(|| json!({}), |token| json!({"token": token}));
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "double", "cluster": {"server": self.url()}}],
            "users": [{"name": who, "user": identity}],
            "contexts": [{"name": "double", "context": {"cluster": "double", "user": who}}],
            "current-context": "double",
        });
        format!("{config:#}\n")
    }

    /// Writes the kubeconfig to a file.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_kubeconfig(&self, path: &Path, user: Option<&str>) -> io::Result<()> {
        // Who waits for it finds it whole.
        let fresh = path.with_extension("new");
        std::fs::write(&fresh, self.kubeconfig(user))?;
        std::fs::rename(&fresh, path)
    }

    /// Stores an object as it is, without checks, allocations or managedFields, in place of one
    /// with the same name. Metadata that only a server sets is added; the namespace is made if it
    /// isn't there; the status is stored along.
    ///
    /// # Errors
    /// It is of a kind that isn't served, or has no name.
    pub fn put(&self, mut value: Value) -> Result<Value, Refusal> {
        let (kind, key) = self.place_of(&mut value)?;
        if kind.namespaced {
            self.ensure_namespace(value["metadata"]["namespace"].as_str().unwrap_or("default"));
        }
        let mut contents = self.shared.store.lock();
        let old = contents.get(&kind, &key).map(|old| old.value());
        let metadata = &mut value["metadata"];
        for (field, fresh) in
            [("uid", Value::from(object::uid())), ("creationTimestamp", object::now().into())]
        {
            if metadata[field].is_null() {
                let before = old.as_ref().map(|old| old["metadata"][field].clone());
                metadata[field] = before.filter(|value| !value.is_null()).unwrap_or(fresh);
            }
        }
        if kind.kind == "CustomResourceDefinition" {
            admit::established(&mut value);
        }
        if kind.generation {
            let before = old.as_ref().and_then(|old| old["metadata"]["generation"].as_i64());
            let changed = old.as_ref().is_some_and(|old| old["spec"] != value["spec"]);
            value["metadata"]["generation"] = (before.unwrap_or(1) + i64::from(changed)).into();
        }
        Ok(contents.keep(&kind, value).value())
    }

    /// Stores all objects of a directory, or of one file. Definitions come first.
    ///
    /// # Errors
    /// A file can't be read, or an object not be stored.
    pub fn load(&self, path: &Path) -> Result<usize, LoadError> {
        let mut objects = manifest::load(path)?;
        objects.sort_by_key(|object| object["kind"] != "CustomResourceDefinition");
        let count = objects.len();
        for object in objects {
            let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
            self.put(object)
                .map_err(|error| LoadError::Object { object: name, reason: error.message })?;
        }
        Ok(count)
    }

    /// Stores the objects of a YAML text.
    ///
    /// # Errors
    /// It is no YAML, or an object can't be stored.
    pub fn put_yaml(&self, text: &str) -> Result<usize, LoadError> {
        let syntax = |reason| LoadError::Syntax { file: "text".to_owned(), reason };
        let objects = manifest::documents(text).map_err(syntax)?;
        let count = objects.len();
        for object in objects {
            let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
            self.put(object)
                .map_err(|error| LoadError::Object { object: name, reason: error.message })?;
        }
        Ok(count)
    }

    fn place_of(&self, value: &mut Value) -> Result<Place, Refusal> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (api_version, name) = (text(&value["apiVersion"]), text(&value["kind"]));
        let kinds = self.shared.store.lock().kinds.clone();
        let Some(kind) = kinds.of(&api_version, &name) else {
            let message = format!("no kind {name} of {api_version} is served");
            return Err(Refusal::bad_request(message));
        };
        let object = text(&value["metadata"]["name"]);
        if object.is_empty() {
            return Err(Refusal::bad_request(format!("a {name} has no metadata.name")));
        }
        let namespace = match text(&value["metadata"]["namespace"]) {
            _ if !kind.namespaced => String::new(),
            empty if empty.is_empty() => "default".to_owned(),
            namespace => namespace,
        };
        if kind.namespaced {
            value["metadata"]["namespace"] = namespace.clone().into();
        }
        Ok((kind.clone(), key(&namespace, &object)))
    }

    fn ensure_namespace(&self, name: &str) {
        if self.get("namespaces", "", name).is_some() {
            return;
        }
        let namespace = json!({
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        self.put(namespace).expect("invariant: namespaces are served");
    }

    /// The kind by its name in paths with its group: `services`, `ingresses.networking.k8s.io`.
    fn kind(&self, resource: &str) -> Option<Arc<Kind>> {
        self.shared.store.lock().kinds.named(resource).cloned()
    }

    /// One object, by its kind's name in paths with the group (`services`,
    /// `ingresses.networking.k8s.io`), its namespace (empty for a cluster's) and name.
    pub fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Value> {
        let kind = self.kind(resource)?;
        let contents = self.shared.store.lock();
        contents.get(&kind, &key(namespace, name)).map(|object| object.value())
    }

    /// All objects of a kind, in the order of their namespaces and names.
    pub fn list(&self, resource: &str) -> Vec<Value> {
        let Some(kind) = self.kind(resource) else { return Vec::new() };
        let objects: Vec<_> = self.shared.store.lock().all(&kind, None).cloned().collect();
        objects.iter().map(|object| object.value()).collect()
    }

    /// Changes an object in one step, with the next version; returns it, or nothing where it isn't
    /// there.
    pub fn change(
        &self,
        resource: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> Option<Value> {
        let kind = self.kind(resource)?;
        let mut contents = self.shared.store.lock();
        let old = contents.get(&kind, &key(namespace, name))?.value();
        let mut value = old.clone();
        change(&mut value);
        if kind.generation && old["spec"] != value["spec"] {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            value["metadata"]["generation"] = generation.into();
        }
        Some(contents.keep(&kind, value).value())
    }

    /// Removes an object at once, whatever its finalizers; whether it was there.
    pub fn remove(&self, resource: &str, namespace: &str, name: &str) -> bool {
        let Some(kind) = self.kind(resource) else { return false };
        self.shared.store.lock().take_away(&kind, &key(namespace, name)).is_some()
    }

    /// The last version.
    pub fn version(&self) -> u64 {
        self.shared.store.lock().version()
    }

    /// Forgets all history: who asks for changes since an older version is told 410.
    pub fn compact(&self) {
        self.shared.store.lock().compact();
    }

    /// Puts a fault in force; returns its number.
    pub fn fault(&self, fault: Fault) -> u64 {
        self.shared.faults.add(fault)
    }

    /// Lifts a fault.
    pub fn lift(&self, id: u64) {
        self.shared.faults.lift(Some(id));
    }

    /// Lifts all faults, and is there again.
    pub fn lift_all(&self) {
        self.shared.faults.lift(None);
        self.come_back();
    }

    /// Ends all watches now.
    pub fn drop_watches(&self) {
        self.shared.faults.cut_watches(Fault::default());
    }

    /// Ends the watches of the clients that the fault (without its effect) meets.
    pub fn drop_watches_of(&self, whom: Fault) {
        self.shared.faults.cut_watches(whom);
    }

    /// Answers each request late.
    pub fn delay(&self, by: Duration) -> u64 {
        let milliseconds = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.fault(Fault::new(Effect::Delay { milliseconds }))
    }

    /// Breaks all connections and refuses new ones, for a time or until [`Double::come_back`].
    pub fn go_away(&self, time: Option<Duration>) {
        let until = time.map(|time| Instant::now() + time);
        self.shared.faults.gone.send_replace(Gone::Away);
        self.shared.faults.wait_here(false);
        if let Some(until) = until {
            self.shared.faults.gone.send_replace(Gone::Until(until));
        }
    }

    /// Listens again.
    pub fn come_back(&self) {
        self.shared.faults.gone.send_replace(Gone::Here);
        self.shared.faults.wait_here(true);
    }

    /// Denies something; access reviews say so too.
    pub fn deny(&self, denial: Denial) {
        self.shared.access.deny(denial);
    }

    /// Takes all denials back.
    pub fn allow_all(&self) {
        self.shared.access.allow_all();
    }

    /// Requests so far.
    pub fn counters(&self) -> Vec<Counter> {
        self.shared.faults.counters()
    }

    /// How many requests of a verb there were for a resource (`services`, `ingresses/status`).
    pub fn count(&self, verb: &str, resource: &str) -> u64 {
        let counters = self.counters();
        let fitting = counters.iter().filter(|one| one.verb == verb && one.resource == resource);
        fitting.map(|counter| counter.count).sum()
    }

    /// Counts from 0 again.
    pub fn reset_counters(&self) {
        self.shared.faults.reset_counters();
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}
