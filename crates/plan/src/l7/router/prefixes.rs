//! The longest prefix by path elements, for hosts with many.

use super::Map;

/// How many children a tree's node keeps in a list before it hashes them.
const FEW: usize = 8;

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

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl Default for Children {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Tree {
    /// Adds a prefix such as `/a/b`, without trailing slash. The first with the same elements
    /// counts.
    pub(super) fn insert(&mut self, prefix: &str, position: u32) {
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

    /// The value of the longest prefix of `path`, which starts with `/`, and that prefix's
    /// length, at least 1.
    #[inline]
    pub(super) fn longest(&self, path: &str) -> Option<(u32, usize)> {
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
    use super::super::hosts::{Paths, Records};
    use super::*;

    /// A record and the tree must agree wherever the switch between them lies.
    #[test]
    fn record_and_tree_find_the_same() {
        let prefixes = ["/", "/a", "/a/b", "/a/b/c/d", "/b", "/ab", "/a//c", "/c/"];
        let mut paths = Paths::default();
        let mut tree = Tree::default();
        for (position, prefix) in (0..).zip(prefixes) {
            paths.insert(prefix, position);
            tree.insert(prefix.trim_end_matches('/'), position);
        }
        let mut records = Records::default();
        let at = records.push("a.test", paths).unwrap();
        let list = records.get(at).unwrap();
        assert!(records.rare(&list).is_none());
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
