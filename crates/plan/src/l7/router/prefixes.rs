//! The longest prefix by path elements.

use super::Map;

/// How many prefixes a host keeps in a list before it grows a tree, and how many children a
/// tree's node keeps in a list before it hashes them.
const FEW: usize = 8;

/// One host's prefixes.
///
/// Most hosts have a few. Those lie side by side in one piece of memory: with ten thousand hosts
/// each piece more is another wait for it.
#[derive(Debug)]
pub(super) enum Prefixes {
    Few(List),
    Many(Box<Tree>),
}

/// Prefixes from the longest to the shortest.
#[derive(Debug, Default)]
pub(super) struct List {
    /// One after the other, without their trailing slashes.
    texts: Box<str>,
    entries: Box<[Entry]>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    length: u32,
    position: u32,
}

/// A tree with one level for each path element, held in one vector; the root is the first node.
///
/// Walking it looks at each byte of a path at most once and stops where the configured prefixes
/// stop, so that a client's long path of many slashes costs nothing more.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    position: Option<u32>,
    children: Children,
}

#[derive(Debug)]
enum Children {
    Few(Vec<(Box<str>, u32)>),
    Many(Map<u32>),
}

impl Default for Prefixes {
    fn default() -> Self {
        Self::Few(List::default())
    }
}

impl Default for Children {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Prefixes {
    /// Adds a prefix such as `/a/b`; a trailing slash makes no difference. The first with the
    /// same elements counts.
    pub(super) fn insert(&mut self, prefix: &str, position: u32) {
        let prefix = prefix.trim_end_matches('/');
        match self {
            Self::Few(list) if list.entries.len() < FEW => list.insert(prefix, position),
            Self::Few(list) => {
                let mut tree = Tree { nodes: vec![Node::default()] };
                for (prefix, position) in list.iter() {
                    tree.insert(prefix, position);
                }
                tree.insert(prefix, position);
                *self = Self::Many(Box::new(tree));
            }
            Self::Many(tree) => tree.insert(prefix, position),
        }
    }

    /// The route of the longest prefix of `path`, which starts with `/`, and that prefix's
    /// length, at least 1.
    #[inline]
    pub(super) fn longest(&self, path: &str) -> Option<(u32, usize)> {
        match self {
            Self::Few(list) => list.longest(path),
            Self::Many(tree) => tree.longest(path),
        }
    }
}

impl List {
    fn iter(&self) -> impl Iterator<Item = (&str, u32)> {
        let mut rest = &*self.texts;
        self.entries.iter().map(move |entry| {
            let (text, after) = rest.split_at(entry.length as usize);
            rest = after;
            (text, entry.position)
        })
    }

    fn insert(&mut self, prefix: &str, position: u32) {
        let mut prefixes: Vec<(&str, u32)> = self.iter().collect();
        if prefixes.iter().any(|&(known, _)| known == prefix) {
            return;
        }
        let Ok(length) = u32::try_from(prefix.len()) else { return };
        let at = prefixes.partition_point(|(known, _)| known.len() >= prefix.len());
        prefixes.insert(at, (prefix, position));
        let texts = prefixes.iter().map(|&(text, _)| text).collect::<String>().into();
        let mut entries = self.entries.to_vec();
        entries.insert(at, Entry { length, position });
        *self = Self { texts, entries: entries.into() };
    }

    #[inline]
    fn longest(&self, path: &str) -> Option<(u32, usize)> {
        let mut rest = self.texts.as_bytes();
        let path = path.as_bytes();
        for entry in &self.entries {
            let length = entry.length as usize;
            let (text, after) = rest.split_at(length);
            rest = after;
            let whole_element = matches!(path.get(length), None | Some(b'/'));
            if whole_element && path.starts_with(text) {
                return Some((entry.position, length.max(1)));
            }
        }
        None
    }
}

impl Tree {
    fn insert(&mut self, prefix: &str, position: u32) {
        let mut at = 0;
        for element in prefix.split('/').skip(1) {
            at = match self.nodes[at].children.get(element) {
                Some(child) => child as usize,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node::default());
                    self.nodes[at].children.insert(element, child as u32);
                    child
                }
            };
        }
        self.nodes[at].position.get_or_insert(position);
    }

    #[inline]
    fn longest(&self, path: &str) -> Option<(u32, usize)> {
        let mut node = self.nodes.first()?;
        let mut best = node.position.map(|position| (position, 1));
        let mut start = 1;
        while !node.children.is_empty() {
            let Some(rest) = path.get(start..) else { break };
            let length = rest.bytes().position(|byte| byte == b'/').unwrap_or(rest.len());
            let Some(child) = node.children.get(&rest[..length]) else { break };
            node = &self.nodes[child as usize];
            if let Some(position) = node.position {
                best = Some((position, start + length));
            }
            start += length + 1;
        }
        best
    }
}

impl Children {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Few(few) if few.is_empty())
    }

    #[inline]
    fn get(&self, element: &str) -> Option<u32> {
        match self {
            Self::Few(few) => {
                few.iter().find(|(name, _)| name.as_ref() == element).map(|&(_, child)| child)
            }
            Self::Many(many) => many.get(element).copied(),
        }
    }

    fn insert(&mut self, element: &str, child: u32) {
        match self {
            Self::Few(few) if few.len() < FEW => few.push((element.into(), child)),
            Self::Few(few) => {
                let mut many: Map<u32> = few.drain(..).collect();
                many.insert(element.into(), child);
                *self = Self::Many(many);
            }
            Self::Many(many) => {
                many.insert(element.into(), child);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list and the tree must agree wherever the switch between them lies.
    #[test]
    fn list_and_tree_find_the_same() {
        let prefixes = ["/", "/a", "/a/b", "/a/b/c/d", "/b", "/ab", "/a//c", "/c/"];
        let mut list = Prefixes::default();
        let mut tree = Tree { nodes: vec![Node::default()] };
        for (position, prefix) in (0..).zip(prefixes) {
            list.insert(prefix, position);
            tree.insert(prefix.trim_end_matches('/'), position);
        }
        assert!(matches!(list, Prefixes::Few(_)));
        let paths = [
            "/",
            "//",
            "/a",
            "/a/",
            "/a/b",
            "/a/bc",
            "/a/b/c",
            "/a/b/c/d/e",
            "/a//c",
            "/a//",
            "/b/x",
            "/abc",
            "/ab/",
            "/c",
            "/c/",
            "/cc",
            "/d",
        ];
        for path in paths {
            let found = tree.longest(path);
            assert_eq!(list.longest(path), found, "{path}");
            assert!(found.is_some(), "{path}");
        }
    }
}
