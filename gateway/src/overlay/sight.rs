//! Whether this edge is cut off from the nodes, with patience both ways.

use std::time::{Duration, Instant};

/// So long no node is heard before it counts.
const PATIENCE: Duration = Duration::from_secs(3);
/// So long one has to be heard again.
const TRUST: Duration = Duration::from_secs(10);

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Sight {
    cut_off: bool,
    /// Since when the nodes say otherwise.
    since: Option<Instant>,
}

impl Sight {
    /// Of so many nodes with agents, so many are heard now. Without nodes there is nobody to be
    /// cut off from.
    pub(super) fn look(&mut self, now: Instant, nodes: usize, heard: usize) -> bool {
        let cut_off = nodes > 0 && heard == 0;
        if cut_off == self.cut_off {
            self.since = None;
            return self.cut_off;
        }
        let since = *self.since.get_or_insert(now);
        let long = if cut_off { PATIENCE } else { TRUST };
        if nodes == 0 || now.saturating_duration_since(since) >= long {
            (self.cut_off, self.since) = (cut_off, None);
        }
        self.cut_off
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_comes_and_goes_changes_nothing() {
        let (mut sight, start) = (Sight::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut look = |seconds, heard| sight.look(at(seconds), 3, heard);
        assert!(!look(0, 3));
        // Lost, but not for long.
        assert!(!look(1, 0) && !look(3, 0) && !look(3, 1));
        assert!(!look(4, 0) && !look(6, 0) && look(7, 0));
        // Back, but not for long.
        assert!(look(8, 3) && look(17, 3) && look(17, 0));
        assert!(look(20, 1) && look(29, 1) && !look(30, 1));
    }

    #[test]
    fn where_there_are_no_nodes_nobody_is_cut_off_from_them() {
        let (mut sight, start) = (Sight::default(), Instant::now());
        assert!(!sight.look(start, 0, 0) && !sight.look(start + TRUST, 0, 0));
        assert!(!sight.look(start, 2, 0) && sight.look(start + PATIENCE, 2, 0));
        assert!(!sight.look(start + PATIENCE, 0, 0));
    }
}
