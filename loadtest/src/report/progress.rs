//! How far long work is: one line redrawn on a terminal, now and then a line elsewhere.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often the line on a terminal is drawn.
const REDRAW: Duration = Duration::from_millis(100);
/// How often a line is written where it stays, if nothing else is said.
const LINE: Duration = Duration::from_secs(5);
/// Columns of the bar.
const BAR: usize = 24;
/// Columns of the whole line, so that none wraps.
const COLUMNS: usize = 79;

/// A line of progress on standard error, taken away when dropped.
pub(crate) struct Progress {
    out: Box<dyn Write>,
    is_terminal: bool,
    start: Instant,
    drawn: Option<Instant>,
    step: String,
    /// How often a line is written where it stays.
    every: Duration,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Progress").field("step", &self.step).finish_non_exhaustive()
    }
}

impl Progress {
    /// Of work that begins now.
    pub(crate) fn new() -> Self {
        Self::with_lines_every(LINE)
    }

    /// The same; where lines stay, one is written no more often, but for each step.
    pub(crate) fn with_lines_every(every: Duration) -> Self {
        let out = std::io::stderr();
        let is_terminal = out.is_terminal() && std::env::var_os("TERM").is_none_or(|t| t != "dumb");
        Self::to(Box::new(out), is_terminal, every, Instant::now())
    }

    fn to(out: Box<dyn Write>, is_terminal: bool, every: Duration, start: Instant) -> Self {
        Self { out, is_terminal, start, drawn: None, step: String::new(), every }
    }

    /// Says how far the work is: the share that is done, 0 to 1, the step it is at, and a figure
    /// that changes all the time, as a rate. Cheap enough to be called as often as one likes.
    pub(crate) fn show(&mut self, done: f64, step: &str, now_and_then: &str) {
        self.show_at(Instant::now(), done, step, now_and_then);
    }

    fn show_at(&mut self, now: Instant, done: f64, step: &str, now_and_then: &str) {
        let is_new = self.step != step;
        let pause = if self.is_terminal { REDRAW } else { self.every };
        let is_due = self.drawn.is_none_or(|drawn| now.duration_since(drawn) >= pause);
        if !is_due && !is_new {
            return;
        }
        if is_new {
            step.clone_into(&mut self.step);
        }
        self.drawn = Some(now);
        let line = line(done, now.duration_since(self.start), step, now_and_then, self.is_terminal);
        // Progress that can't be shown is no reason to end the work.
        let _ = if self.is_terminal {
            write!(self.out, "\r{line}\x1b[K")
        } else {
            writeln!(self.out, "{line}")
        };
        let _ = self.out.flush();
    }

    /// Takes the line away, so that something else can be printed; the next call draws it again.
    pub(crate) fn clear(&mut self) {
        if self.is_terminal && self.drawn.take().is_some() {
            let _ = write!(self.out, "\r\x1b[K");
            let _ = self.out.flush();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

fn line(done: f64, elapsed: Duration, step: &str, now_and_then: &str, bar: bool) -> String {
    let done = done.clamp(0.0, 1.0);
    let mut text = if bar {
        let filled = (done * BAR as f64) as usize;
        format!("[{}{}] ", "█".repeat(filled), "·".repeat(BAR - filled))
    } else {
        String::new()
    };
    text.push_str(&format!("{:3.0} %  {}", done * 100.0, clock(elapsed)));
    // Too early, the rest is a guess.
    if done > 0.01 && done < 1.0 {
        let left = elapsed.as_secs_f64() * (1.0 - done) / done;
        text.push_str(&format!(", {} left", clock(Duration::from_secs_f64(left))));
    }
    for part in [step, now_and_then].into_iter().filter(|part| !part.is_empty()) {
        text.push_str("  ");
        text.push_str(part);
    }
    match text.char_indices().nth(COLUMNS) {
        Some((end, _)) if bar => text.get(..end).unwrap_or_default().to_owned(),
        _ => text,
    }
}

/// `0:07`, `12:34`, `1:02:03`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match hours {
        0 => format!("{minutes}:{seconds:02}"),
        _ => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Screen(Arc<Mutex<Vec<u8>>>);

    impl Write for Screen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("the screen").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn shown(is_terminal: bool) -> String {
        let (screen, start) = (Screen::default(), Instant::now());
        let mut progress = Progress::to(Box::new(screen.clone()), is_terminal, LINE, start);
        for tenth in 0..=100_u32 {
            let now = start + Duration::from_millis(100) * tenth;
            let step = if tenth < 50 { "ramp" } else { "steady" };
            progress.show_at(now, f64::from(tenth) / 100.0, step, "1,000/s");
            progress.show_at(now, f64::from(tenth) / 100.0, step, "1,001/s");
        }
        drop(progress);
        let bytes = screen.0.lock().expect("the screen").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn a_terminal_has_one_line_that_is_taken_away() {
        let text = shown(true);
        assert_eq!((text.matches('\r').count(), text.matches('\n').count()), (102, 0));
        assert!(
            text.contains("[████████████············]  50 %  0:05, 0:05 left  steady  1,000/s")
        );
        assert!(text.ends_with("\r\x1b[K"));
    }

    #[test]
    fn elsewhere_there_is_a_line_for_each_step_and_every_few_seconds() {
        let text = shown(false);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[0], "  0 %  0:00  ramp  1,000/s");
        assert_eq!(lines[1], " 50 %  0:05, 0:05 left  steady  1,000/s");
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
    }
}
