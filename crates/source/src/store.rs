//! Files' contents to a [`Delivery`], keeping last good objects. Without I/O.

use std::collections::BTreeMap;

use ingest::manifest::{self, Entry, Memo};
use model::{Diagnostic, Location, ObjectRef, Severity};

use ingest::Delivery;

const KEPT: &str = "what was read before stays in force until then";

/// What stands in every file, as far as it could be read.
#[derive(Debug, Default)]
pub struct Store {
    /// By name. The first file to have an object wins.
    files: BTreeMap<String, File>,
}

#[derive(Debug, Default)]
struct File {
    content: Content,
    /// Lets a change to one object cost the reading of one, however large the file.
    memo: Memo,
}

#[derive(Debug, Default, PartialEq)]
struct Content {
    entries: BTreeMap<ObjectRef, Entry>,
    diagnostics: Vec<Diagnostic>,
    ignored: BTreeMap<String, usize>,
}

impl Store {
    /// Takes in a file's new text. Returns whether that changes anything.
    ///
    /// Objects that stood in the file before and may still be meant to (they are broken, or
    /// something in the file can't be identified) stay as they were.
    pub fn put(&mut self, name: &str, text: &str) -> bool {
        let known = self.files.get_mut(name);
        let had_objects = known.as_ref().is_some_and(|file| !file.content.entries.is_empty());
        if had_objects && text.trim().is_empty() {
            // Who writes in place cuts the file to nothing first, and a full disk leaves it so.
            return self.keep(
                name,
                Severity::Warning,
                "is empty",
                "remove the file to take its objects out of force",
            );
        }
        let (before, mut memo) = match known {
            Some(file) => (Some(&file.content), std::mem::take(&mut file.memo)),
            None => (None, Memo::default()),
        };
        let parsed = manifest::parse_with(name, text, &mut memo);
        let mut content = Content {
            entries: BTreeMap::new(),
            diagnostics: parsed.diagnostics,
            ignored: parsed.ignored,
        };
        for entry in parsed.objects {
            content.entries.insert(entry.reference.clone(), entry);
        }
        let mut kept_unseen = false;
        for (reference, entry) in before.into_iter().flat_map(|content| &content.entries) {
            let broken = parsed.broken.contains(reference);
            if !content.entries.contains_key(reference) && (broken || parsed.torn) {
                content.entries.insert(reference.clone(), entry.clone());
                kept_unseen |= !broken;
                for diagnostic in &mut content.diagnostics {
                    if broken && diagnostic.object == *reference {
                        say_kept(diagnostic);
                    }
                }
            }
        }
        if kept_unseen {
            let this = manifest::file_reference(name);
            content.diagnostics.iter_mut().filter(|found| found.object == this).for_each(say_kept);
        }
        self.replace(name, File { content, memo })
    }

    /// A file is there and can't be read, for this reason. Returns whether that is news.
    pub fn unreadable(&mut self, name: &str, reason: &str, remedy: &str) -> bool {
        self.keep(name, Severity::Error, reason, remedy)
    }

    /// A file is gone. Returns whether it was known.
    pub fn remove(&mut self, name: &str) -> bool {
        self.files.remove(name).is_some()
    }

    /// All objects, and all that is wrong.
    pub fn delivery(&self) -> Delivery {
        let mut delivery = Delivery::default();
        for File { content, .. } in self.files.values() {
            delivery.diagnostics.extend(content.diagnostics.iter().cloned());
            for (kind, count) in &content.ignored {
                *delivery.ignored.entry(kind.clone()).or_default() += count;
            }
            for entry in content.entries.values() {
                match delivery.objects.origins.get(&entry.reference) {
                    None => entry.clone().insert_into(&mut delivery.objects),
                    Some(first) => delivery.diagnostics.push(in_two_files(entry, first)),
                }
            }
        }
        delivery
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    fn keep(&mut self, name: &str, severity: Severity, reason: &str, remedy: &str) -> bool {
        let File { content, .. } = self.files.entry(name.to_owned()).or_default();
        let location = Location { file: name.to_owned(), line: 0 };
        let mut diagnostic = Diagnostic::error(manifest::file_reference(name), "", reason)
            .remedy(remedy)
            .at(Some(location));
        diagnostic.severity = severity;
        if !content.entries.is_empty() {
            say_kept(&mut diagnostic);
        }
        let news = content.diagnostics != [diagnostic.clone()];
        content.diagnostics = vec![diagnostic];
        news
    }

    fn replace(&mut self, name: &str, file: File) -> bool {
        match self.files.get_mut(name) {
            Some(known) => {
                let news = known.content != file.content;
                *known = file;
                news
            }
            None => {
                self.files.insert(name.to_owned(), file);
                true
            }
        }
    }
}

fn say_kept(diagnostic: &mut Diagnostic) {
    if diagnostic.remedy.is_empty() {
        diagnostic.remedy.push_str(KEPT);
    } else {
        diagnostic.remedy = format!("{}; {KEPT}", diagnostic.remedy);
    }
}

fn in_two_files(entry: &Entry, first: &Location) -> Diagnostic {
    let reason = format!("stands in {first} too, and that one counts");
    Diagnostic::error(entry.reference.clone(), "", reason)
        .remedy("remove or rename one of the two")
        .at(Some(entry.location.clone()))
}

#[cfg(test)]
mod tests;
