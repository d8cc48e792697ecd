use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;
use tokio::sync::watch::Receiver;

use super::*;

/// Far longer than anything takes, for machines under load.
const DEADLINE: Duration = Duration::from_secs(20);

/// So long that only inotify can be the reason if something is noticed.
const DEAF: Pace = Pace {
    quiet: Duration::from_millis(20),
    longest: Duration::from_millis(200),
    resync: Duration::from_secs(3600),
    fallback: Duration::from_secs(3600),
};

fn ingress(name: &str) -> String {
    format!("apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}}}\n")
}

fn names(delivery: &Delivery) -> Vec<&str> {
    delivery.objects.origins.keys().map(|object| object.name.as_str()).collect()
}

/// A directory under watch until dropped.
struct Watching {
    receiver: Receiver<Arc<Delivery>>,
    stop: CancellationToken,
}

impl Watching {
    fn begin(root: &Path, pace: Pace) -> Self {
        let (directory, receiver) = Directory::open(root.to_path_buf(), pace).unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(directory.run(stop.clone()));
        Self { receiver, stop }
    }

    async fn until(&mut self, what: &str, test: impl Fn(&Delivery) -> bool) -> Arc<Delivery> {
        let found = self.receiver.wait_for(|delivery| test(delivery));
        let found = tokio::time::timeout(DEADLINE, found).await;
        if let Ok(found) = found {
            return Arc::clone(&found.unwrap());
        }
        drop(found);
        panic!("{what}: still {:?}", names(&self.receiver.borrow()));
    }

    async fn until_names(&mut self, expected: &[&str]) {
        self.until(&format!("{expected:?}"), |delivery| names(delivery) == expected).await;
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[test]
fn manifests_are_found_by_their_extension_below_the_directory_too() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("m");
    for (file, name) in [
        ("a.yaml", "a"),
        ("b.yml", "b"),
        ("sub/deep/c.json", "c"),
        ("d.txt", "d"),
        (".hidden.yaml", "e"),
        (".git/f.yaml", "f"),
        ("g.yaml~", "g"),
    ] {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, ingress(name)).unwrap();
    }
    fs::create_dir(root.join("directory.yaml")).unwrap();
    // Circles end.
    symlink(&root, root.join("sub/circle")).unwrap();
    let delivery = read(&root).unwrap();
    assert_eq!(names(&delivery), ["a", "b", "c"]);
    assert_eq!(delivery.diagnostics, []);
    let file = &delivery.objects.origins.values().next().unwrap().file;
    assert_eq!(*file, root.join("a.yaml").to_string_lossy());
}

#[test]
fn a_directory_that_is_not_there_is_an_error_with_a_remedy() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("missing");
    let error = read(&missing).unwrap_err().to_string();
    assert!(error.contains("missing") && error.contains("make it, or correct"), "{error}");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Directory::open(file, DEAF).err().unwrap().to_string();
    assert!(error.contains("name the directory that the file lies in"), "{error}");
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_is_read() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("a.yaml"), ingress("a")).unwrap();
    fs::write(dir.path().join("binary.yaml"), [0xff, 0xfe, 0x00]).unwrap();
    symlink("nowhere", dir.path().join("dangling.yaml")).unwrap();
    let big = fs::File::create(dir.path().join("huge.yaml")).unwrap();
    big.set_len(yaml::MAX_BYTES as u64 + 1).unwrap();
    let delivery = read(dir.path()).unwrap();
    assert_eq!(names(&delivery), ["a"]);
    let found: Vec<String> = delivery.diagnostics.iter().map(ToString::to_string).collect();
    for (file, reason) in [
        ("binary.yaml", "valid UTF-8"),
        ("dangling.yaml", "No such file"),
        ("huge.yaml", "at most 16777216 are read"),
    ] {
        assert!(
            found.iter().any(|found| found.contains(file) && found.contains(reason)),
            "{file}: {found:?}"
        );
    }
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn only_files_that_changed_are_read_again() {
    let dir = TempDir::new().unwrap();
    let (old, new) = (dir.path().join("old.yaml"), dir.path().join("new.yaml"));
    fs::write(&old, ingress("a")).unwrap();
    let mut reader = Reader::new(dir.path().to_path_buf());
    let deadline = std::time::Instant::now() + DEADLINE;
    // A file just written is read again until its times can be trusted.
    while reader.stamps.values().any(Option::is_none) || reader.stamps.is_empty() {
        assert!(std::time::Instant::now() < deadline);
        reader.look();
    }
    let before = reader.stamps.clone();
    fs::write(&new, ingress("b")).unwrap();
    assert!(reader.look().changed);
    assert_eq!(reader.stamps.get(&*old.to_string_lossy()), before.values().next());
    assert!(!reader.look().changed);
}

#[tokio::test]
async fn a_file_that_comes_changes_and_goes_is_followed() {
    let dir = TempDir::new().unwrap();
    let mut watching = Watching::begin(dir.path(), DEAF);
    assert!(names(&watching.receiver.borrow()).is_empty());
    let file = dir.path().join("a.yaml");
    fs::write(&file, ingress("a")).unwrap();
    watching.until_names(&["a"]).await;
    fs::write(&file, ingress("b")).unwrap();
    watching.until_names(&["b"]).await;
    // As editors and config management do it.
    fs::write(dir.path().join(".a.tmp"), ingress("c")).unwrap();
    fs::rename(dir.path().join(".a.tmp"), &file).unwrap();
    watching.until_names(&["c"]).await;
    fs::remove_file(&file).unwrap();
    watching.until_names(&[]).await;
}

#[tokio::test]
async fn a_new_directory_is_watched_with_what_is_in_it() {
    let dir = TempDir::new().unwrap();
    let mut watching = Watching::begin(dir.path(), DEAF);
    let sub = dir.path().join("x/y");
    fs::create_dir_all(&sub).unwrap();
    fs::write(sub.join("a.yaml"), ingress("a")).unwrap();
    watching.until_names(&["a"]).await;
    fs::write(sub.join("b.yaml"), ingress("b")).unwrap();
    watching.until_names(&["a", "b"]).await;
    fs::remove_dir_all(dir.path().join("x")).unwrap();
    watching.until_names(&[]).await;
}

#[tokio::test]
async fn a_torn_file_keeps_its_objects_until_it_is_mended() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, ingress("a")).unwrap();
    let mut watching = Watching::begin(dir.path(), DEAF);
    fs::write(&file, "kind: [Ingress").unwrap();
    let torn = watching.until("torn", |delivery| !delivery.diagnostics.is_empty()).await;
    assert_eq!(names(&torn), ["a"]);
    fs::write(&file, ingress("b")).unwrap();
    let mended = watching.until("mended", |delivery| delivery.diagnostics.is_empty()).await;
    assert_eq!(names(&mended), ["b"]);
}

#[tokio::test]
async fn a_kubernetes_mount_is_followed_through_its_swapped_link() {
    let dir = TempDir::new().unwrap();
    let root = dir.path();
    let publish = |version: &str, name: &str| {
        fs::create_dir(root.join(version)).unwrap();
        fs::write(root.join(version).join("a.yaml"), ingress(name)).unwrap();
        symlink(version, root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
    };
    publish("..2026_1", "one");
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    let mut watching = Watching::begin(root, DEAF);
    assert_eq!(names(&watching.receiver.borrow()), ["one"]);
    publish("..2026_2", "two");
    fs::remove_dir_all(root.join("..2026_1")).unwrap();
    watching.until_names(&["two"]).await;
    publish("..2026_3", "three");
    watching.until_names(&["three"]).await;
}

#[tokio::test]
async fn links_to_elsewhere_are_followed() {
    let dir = TempDir::new().unwrap();
    let (root, elsewhere) = (dir.path().join("m"), dir.path().join("elsewhere"));
    fs::create_dir_all(&root).unwrap();
    fs::create_dir_all(&elsewhere).unwrap();
    fs::write(elsewhere.join("target"), ingress("a")).unwrap();
    symlink("../elsewhere/target", root.join("a.yaml")).unwrap();
    let mut watching = Watching::begin(&root, DEAF);
    assert_eq!(names(&watching.receiver.borrow()), ["a"]);
    fs::write(elsewhere.join("target"), ingress("b")).unwrap();
    watching.until_names(&["b"]).await;
}

#[tokio::test]
async fn the_directory_may_be_behind_a_link_that_is_swapped() {
    let dir = TempDir::new().unwrap();
    for (release, name) in [("r1", "one"), ("r2", "two")] {
        fs::create_dir_all(dir.path().join(release).join("m")).unwrap();
        fs::write(dir.path().join(release).join("m/a.yaml"), ingress(name)).unwrap();
    }
    symlink("r1", dir.path().join("current")).unwrap();
    let mut watching = Watching::begin(&dir.path().join("current/m"), DEAF);
    assert_eq!(names(&watching.receiver.borrow()), ["one"]);
    symlink("r2", dir.path().join("next")).unwrap();
    fs::rename(dir.path().join("next"), dir.path().join("current")).unwrap();
    watching.until_names(&["two"]).await;
    fs::write(dir.path().join("r2/m/b.yaml"), ingress("b")).unwrap();
    watching.until_names(&["b", "two"]).await;
}

#[tokio::test]
async fn a_directory_that_goes_and_comes_back_keeps_its_objects_meanwhile() {
    let dir = TempDir::new().unwrap();
    let (root, away) = (dir.path().join("m"), dir.path().join("away"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), ingress("a")).unwrap();
    let mut watching = Watching::begin(&root, DEAF);
    fs::rename(&root, &away).unwrap();
    let gone = watching.until("gone", |delivery| !delivery.diagnostics.is_empty()).await;
    assert_eq!(names(&gone), ["a"]);
    assert!(gone.diagnostics[0].to_string().contains("put the directory back"));
    fs::create_dir(&root).unwrap();
    fs::write(root.join("b.yaml"), ingress("b")).unwrap();
    let back = watching.until("back", |delivery| names(delivery) == ["b"]).await;
    assert_eq!(back.diagnostics, []);
    fs::write(root.join("c.yaml"), ingress("c")).unwrap();
    watching.until_names(&["b", "c"]).await;
}

#[tokio::test]
async fn a_directory_deleted_and_made_again_at_once_stays_watched() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("m");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("a.yaml"), ingress("a")).unwrap();
    let mut watching = Watching::begin(&root, DEAF);
    for name in ["b", "c", "d"] {
        fs::remove_dir_all(&root).unwrap();
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a.yaml"), ingress(name)).unwrap();
        watching.until_names(&[name]).await;
    }
    fs::write(root.join("e.yaml"), ingress("e")).unwrap();
    watching.until_names(&["d", "e"]).await;
}

#[tokio::test]
async fn a_file_that_can_no_longer_be_opened_keeps_its_objects() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("a.yaml");
    fs::write(&file, ingress("a")).unwrap();
    let mut watching = Watching::begin(dir.path(), DEAF);
    // Taking rights away would stop everyone but root; a link to itself stops root too.
    fs::remove_file(&file).unwrap();
    symlink("a.yaml", &file).unwrap();
    let unreadable = watching.until("loop", |delivery| !delivery.diagnostics.is_empty()).await;
    assert_eq!(names(&unreadable), ["a"]);
    fs::remove_file(&file).unwrap();
    fs::write(&file, ingress("b")).unwrap();
    let back = watching.until("back", |delivery| delivery.diagnostics.is_empty()).await;
    assert_eq!(names(&back), ["b"]);
}

#[tokio::test]
async fn without_inotify_the_directory_is_polled() {
    let dir = TempDir::new().unwrap();
    let pace = Pace { fallback: Duration::from_millis(20), ..DEAF };
    let (mut directory, receiver) = Directory::open(dir.path().to_path_buf(), pace).unwrap();
    directory.state.ears = Ears::new(|_| Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch)));
    assert!(!directory.state.hears());
    let stop = CancellationToken::new();
    tokio::spawn(directory.run(stop.clone()));
    let mut watching = Watching { receiver, stop };
    fs::write(dir.path().join("a.yaml"), ingress("a")).unwrap();
    watching.until_names(&["a"]).await;
    fs::remove_file(dir.path().join("a.yaml")).unwrap();
    watching.until_names(&[]).await;
}

#[tokio::test]
async fn it_ends_when_told_to_stop() {
    let dir = TempDir::new().unwrap();
    let (directory, _receiver) = Directory::open(dir.path().to_path_buf(), DEAF).unwrap();
    let stop = CancellationToken::new();
    let running = tokio::spawn(directory.run(stop.clone()));
    stop.cancel();
    tokio::time::timeout(DEADLINE, running).await.unwrap().unwrap();
}
