//! Which manifests a directory holds at a moment, and what must be watched to hear of changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Deepest directory below the first that is read.
const MAX_DEPTH: usize = 16;

/// Most symbolic links that one path may lead through, as in Linux.
const MAX_LINKS: usize = 40;

/// A file changed so lately may change again without its times telling: kernels take them from a
/// clock that ticks every 1 to 10 ms.
const SETTLING: Duration = Duration::from_millis(50);

/// What a look at the directory found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// Manifests, by the name that users see.
    pub(super) files: BTreeMap<String, Found>,
    /// What can't be looked at, by name, and why. Directories end in `/`.
    pub(super) problems: BTreeMap<String, String>,
    /// Where to look for changes.
    pub(super) watched: Watched,
}

/// A manifest.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// None if another change may not be told from this state.
    pub(super) stamp: Option<Stamp>,
}

/// Paths, free of symbolic links, on which changes count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Watched {
    /// Directories all of whose entries count.
    pub(super) directories: BTreeSet<PathBuf>,
    /// Single entries, in directories where nothing else counts: links on the way to a manifest,
    /// and the directory itself in its parent.
    pub(super) entries: BTreeSet<PathBuf>,
}

/// Tells one state of a file from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Scan {
    /// Looks at the directory and all below it. Symbolic links are followed. Names beginning with
    /// a dot don't count, except where a link leads through them: Kubernetes mounts volumes as
    /// links into `..data`, which is itself a link that is swapped.
    ///
    /// # Errors
    /// If the directory itself can't be read; then the second part still says where to look for
    /// its return.
    pub(super) fn of(root: &Path) -> Result<Self, (io::Error, Watched)> {
        let mut scan = Self::default();
        scan.watched.entries.extend(trail(root));
        let name = root.to_string_lossy();
        let name = name.trim_end_matches('/');
        match scan.walk(root, name, 0, &mut BTreeSet::new()) {
            Ok(()) => Ok(scan),
            Err(error) => Err((error, scan.watched)),
        }
    }

    fn walk(
        &mut self,
        directory: &Path,
        name: &str,
        depth: usize,
        seen: &mut BTreeSet<(u64, u64)>,
    ) -> io::Result<()> {
        let metadata = fs::metadata(directory)?;
        // Links can make circles, and lead to one directory on many ways.
        if !seen.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        let mut entries = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
        self.watched.directories.insert(fs::canonicalize(directory)?);
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let file_name = entry.file_name();
            if file_name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let path = entry.path();
            let name = format!("{name}/{}", file_name.to_string_lossy());
            if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                self.watched.entries.extend(trail(&path));
            }
            self.entry(path, name, depth, seen);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: PathBuf,
        name: String,
        depth: usize,
        seen: &mut BTreeSet<(u64, u64)>,
    ) {
        let is_manifest = is_manifest(&path);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => {
                let result = if depth < MAX_DEPTH {
                    self.walk(&path, &name, depth + 1, seen)
                } else {
                    Err(io::Error::other(format!("is over {MAX_DEPTH} directories deep")))
                };
                match result {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        self.problems.insert(format!("{name}/"), error.to_string());
                    }
                    _ => {}
                }
            }
            Ok(metadata) if is_manifest && metadata.is_file() => {
                let stamp = Stamp::of(&metadata).settled();
                self.files.insert(name, Found { path, stamp });
            }
            Ok(_) => {}
            // A link that leads nowhere is a mount half changed; a plain file is just gone.
            Err(error)
                if is_manifest
                    && (error.kind() != io::ErrorKind::NotFound || path.is_symlink()) =>
            {
                self.problems.insert(name, error.to_string());
            }
            Err(_) => {}
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn settled(self) -> Option<Self> {
        let (seconds, nanos) = self.changed;
        let changed = UNIX_EPOCH
            + Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).unwrap_or_default());
        let age = SystemTime::now().duration_since(changed).ok()?;
        (age > SETTLING).then_some(self)
    }
}

fn is_manifest(path: &Path) -> bool {
    let extension = path.extension().and_then(OsStr::to_str);
    extension.is_some_and(|extension| ["yaml", "yml", "json"].contains(&extension))
}

/// Every symbolic link that the path leads through, and at last what it leads to: each without
/// links in its own directory's path. What doesn't exist counts as no link.
fn trail(path: &Path) -> Vec<PathBuf> {
    let Ok(path) = std::path::absolute(path) else { return Vec::new() };
    let mut trail = Vec::new();
    let mut at = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = VecDeque::new();
    prepend(&mut ahead, &path);
    while let Some(step) = ahead.pop_front() {
        if step == ".." {
            at.pop();
            continue;
        }
        let next = at.join(step);
        match fs::read_link(&next) {
            Ok(target) if trail.len() < MAX_LINKS => {
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                prepend(&mut ahead, &target);
                trail.push(next);
            }
            _ => at = next,
        }
    }
    trail.push(at);
    trail
}

fn prepend(ahead: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => ahead.push_front(name.to_owned()),
            Component::ParentDir => ahead.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}
