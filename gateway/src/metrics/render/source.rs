//! The Kubernetes API's part of the page.

use std::time::UNIX_EPOCH;

use cluster::watch::{KindState, SourceState};

use super::Page;

pub(super) fn write(page: &mut Page, state: &SourceState) {
    let since = state.since.and_then(|since| since.duration_since(UNIX_EPOCH).ok());
    page.single(
        "source_connected",
        "gauge",
        "Whether the Kubernetes API answers.",
        u8::from(state.connected),
    );
    page.single(
        "source_since_seconds",
        "gauge",
        "Since when it does, or doesn't: seconds since 1970.",
        since.unwrap_or_default().as_secs(),
    );
    page.single(
        "source_synced",
        "gauge",
        "Whether all kinds have been listed once.",
        u8::from(state.synced),
    );
    type Value = fn(&KindState) -> u64;
    let families: [(&str, &str, &str, Value); 6] = [
        ("source_objects", "gauge", "Objects that are known.", |of| of.objects as u64),
        ("source_kind_synced", "gauge", "Whether the kind was listed.", |of| of.synced.into()),
        ("source_kind_denied", "gauge", "Whether it may not be read.", |of| of.denied.into()),
        ("source_lists_total", "counter", "How often all were listed.", |of| of.lists),
        ("source_watches_total", "counter", "How often a watch was begun.", |of| of.watches),
        ("source_events_total", "counter", "Objects that came.", |of| of.events),
    ];
    for (name, kind, help, value) in families {
        page.family(name, kind, help);
        for (of, counts) in &state.kinds {
            page.sample(name, &format!("kind=\"{of}\""), value(counts));
        }
    }
}
